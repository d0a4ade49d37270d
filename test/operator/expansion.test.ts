import { statfsSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { handleOf } from '../cluster/kubelet.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';

stories('a volume in use', (scene) => {
  it('grows when its claim asks for more, and keeps what is in it', async () => {
    const { kube, user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'small', storageClassName: 'xfs', size: '300Mi' });
    const ledger = new Ledger();
    const mounted = await kubelet(node).mount(volume);
    ledger.write(path.join(mounted, 'file'), MiB);
    await user.grow('small', '400Mi');
    const grown = async () => (await kube.volumes.get(volume.metadata))?.spec.capacity.storage;
    await expect.poll(grown, { timeout: 30_000 }).toBe('400Mi');
    const conditions = async () =>
      (await kube.claims.get(user.at('small')))?.status?.conditions?.map(({ type }) => type);
    await expect.poll(conditions, { timeout: 30_000 }).toContain('FileSystemResizePending');
    await kubelet(node).resize({ ...volume, spec: { ...volume.spec, capacity: { storage: '400Mi' } } });
    const { bsize, blocks } = statfsSync(mounted);
    expect(bsize * blocks).toBeGreaterThan(300 * MiB);
    expect(ledger.differences(mounted, ['file'])).toEqual([]);
    const image = await kube.diskImages.get({ namespace: systemNamespace, name: handleOf(volume) });
    expect([image?.spec.size, image?.status.virtualSize]).toEqual([400 * MiB, 400 * MiB]);
    await kubelet(node).unmount(volume);
    await user.remove('pods', 'small');
    await user.remove('claims', 'small');
  });

  it('that cannot grow says why in an event, and goes on as it is', async () => {
    const { user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'greedy', storageClassName: 'raw', size: '64Mi' });
    const ledger = new Ledger();
    const mounted = await kubelet(node).mount(volume);
    await user.grow('greedy', '500Gi');
    await expect.poll(() => user.eventsOf('greedy'), { timeout: 30_000 }).toContain('pool-full');
    ledger.write(path.join(mounted, 'file'), MiB);
    expect(ledger.differences(mounted, ['file'])).toEqual([]);
    await kubelet(node).unmount(volume);
    await user.remove('pods', 'greedy');
    await user.remove('claims', 'greedy');
  });
});
