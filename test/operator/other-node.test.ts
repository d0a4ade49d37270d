import path from 'node:path';
import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';

/**
 * Layers are not moved between nodes: what starts from a snapshot or a volume is made on the node of that, wherever the
 * scheduler would rather have had the pod.
 */
stories('a copy that is wanted on another node than its source', (scene) => {
  it.each([
    ['VolumeSnapshot', 'taken'],
    ['PersistentVolumeClaim', 'source'],
  ] as const)('(of a %s) ends on the node of its source by itself, and the pod with it', async (kind, name) => {
    const { user, kubelet } = scene();
    const { volume } = await user.claimWithPod({ name: 'source', node: 'worker-a' });
    const ledger = new Ledger();
    ledger.write(path.join(await kubelet('worker-a').mount(volume), 'file'), MiB);
    await kubelet('worker-a').unmount(volume);
    await user.snapshot('taken', 'source');
    await user.claim({ name: 'copy', dataSource: { kind, name } });
    await user.pod({ name: 'copy', claims: ['copy'], preferredNode: 'worker-b' });
    const copy = await user.bound('copy');
    expect([copy.node, await user.scheduled('copy')]).toEqual(['worker-a', 'worker-a']);
    expect(ledger.differences(await kubelet('worker-a').mount(copy.volume), ['file'])).toEqual([]);
    await kubelet('worker-a').unmount(copy.volume);
    await user.remove('pods', 'source', 'copy');
    await user.remove('snapshots', 'taken');
    await user.remove('claims', 'source', 'copy');
    for (const claim of ['source', 'copy']) await user.gone('claims', claim);
    await user.gone('snapshots', 'taken');
  });

  it('by a pod that can be nowhere else is made on the node of its source, and the pod says why it waits', async () => {
    const { user } = scene();
    await user.claimWithPod({ name: 'pinned-source', node: 'worker-a' });
    await user.snapshot('pinned-taken', 'pinned-source');
    await user.claim({ name: 'pinned', dataSource: { kind: 'VolumeSnapshot', name: 'pinned-taken' } });
    await user.pod({ name: 'pinned', claims: ['pinned'], node: 'worker-b' });
    expect((await user.bound('pinned')).node).toBe('worker-a');
    await expect.poll(() => user.eventsOf('pinned'), { timeout: 30_000 }).toMatch(/node affinity/);
    await user.remove('pods', 'pinned', 'pinned-source');
    await user.remove('claims', 'pinned', 'pinned-source');
    await user.remove('snapshots', 'pinned-taken');
  });
});
