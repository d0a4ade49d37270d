import path from 'node:path';
import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';

stories('a VolumeSnapshot', (scene) => {
  it.each(['thin', 'raw'] as const)(
    'of a volume in use (%s) holds what was written before it, and is restored and cloned',
    async (storageClassName) => {
      const { kube, user, kubelet } = scene();
      // On the pool that can share extents, where raw volumes can be snapshotted while they are in use.
      const node = 'worker-b';
      const { volume } = await user.claimWithPod({ name: 'source', storageClassName, node });
      const ledger = new Ledger();
      const mounted = await kubelet(node).mount(volume);
      ledger.write(path.join(mounted, 'before'), 3 * MiB);
      await user.snapshot('snapshot', 'source');
      ledger.write(path.join(mounted, 'after'), 2 * MiB);
      expect((await kube.snapshots.get(user.at('snapshot')))?.status).toMatchObject({ restoreSize: '64Mi' });

      const copies = [
        { name: 'restored', kind: 'VolumeSnapshot', from: 'snapshot', present: ['before'], absent: ['after'] },
        { name: 'clone', kind: 'PersistentVolumeClaim', from: 'source', present: ['before', 'after'], absent: [] },
      ] as const;
      for (const { name, kind, from, present, absent } of copies) {
        const dataSource = { kind, name: from };
        const copy = await user.claimWithPod({ name, storageClassName, size: '96Mi', node, dataSource });
        expect(ledger.differences(await kubelet(node).mount(copy.volume), present, absent)).toEqual([]);
        await kubelet(node).unmount(copy.volume);
      }
      expect(ledger.differences(mounted, ['before', 'after'])).toEqual([]);
      await kubelet(node).unmount(volume);
      await user.remove('pods', 'source', 'restored', 'clone');
      await user.remove('snapshots', 'snapshot');
      await user.remove('claims', 'source', 'restored', 'clone');
      for (const name of ['source', 'restored', 'clone']) await user.gone('claims', name);
      await user.gone('snapshots', 'snapshot');
    },
  );

  it('of a volume that was never used is ready, too', async () => {
    const { user } = scene();
    await user.claim({ name: 'unused', storageClassName: 'immediate' });
    await user.bound('unused');
    await user.snapshot('of-unused', 'unused');
    await user.remove('snapshots', 'of-unused');
    await user.remove('claims', 'unused');
  });

  it('of a raw volume in use on a pool that cannot share extents says why it is not ready, and is when the volume is free', async () => {
    const { kube, user, kubelet } = scene();
    const { volume } = await user.claimWithPod({ name: 'busy', storageClassName: 'raw', node: 'worker-a' });
    await kubelet('worker-a').mount(volume);
    await user.declareSnapshot('of-busy', 'busy');
    const complaint = async () => JSON.stringify((await kube.snapshots.get(user.at('of-busy')))?.status?.error ?? {});
    await expect.poll(complaint, { timeout: 30_000 }).toContain('live-snapshot-unsupported');
    await kubelet('worker-a').unmount(volume);
    await user.snapshotReady('of-busy');
    await user.remove('pods', 'busy');
    await user.remove('snapshots', 'of-busy');
    await user.remove('claims', 'busy');
  });
});
