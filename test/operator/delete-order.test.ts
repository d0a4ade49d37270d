import path from 'node:path';
import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import * as kinds from '../cluster/kinds.ts';
import { User } from '../cluster/user.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';

stories('volumes and snapshots', (scene) => {
  it('can be deleted before what was made of them', async () => {
    const { user, kubelet } = scene();
    const node = 'worker-a';
    const ledger = new Ledger();
    const { volume } = await user.claimWithPod({ name: 'first', node });
    ledger.write(path.join(await kubelet(node).mount(volume), 'file'), MiB);
    await kubelet(node).unmount(volume);
    await user.snapshot('taken', 'first');
    // The volume before its snapshot.
    await user.remove('pods', 'first');
    await user.remove('claims', 'first');
    await user.gone('claims', 'first');
    const dataSource = { kind: 'VolumeSnapshot', name: 'taken' } as const;
    const restored = await user.claimWithPod({ name: 'restored', node, dataSource });
    // The snapshot before what was restored from it.
    await user.remove('snapshots', 'taken');
    await user.gone('snapshots', 'taken');
    const source = { kind: 'PersistentVolumeClaim', name: 'restored' } as const;
    const clone = await user.claimWithPod({ name: 'clone', node, dataSource: source });
    // And that before its clone.
    expect(ledger.differences(await kubelet(node).mount(restored.volume), ['file'])).toEqual([]);
    await kubelet(node).unmount(restored.volume);
    await user.remove('pods', 'restored');
    await user.remove('claims', 'restored');
    await user.gone('claims', 'restored');
    expect(ledger.differences(await kubelet(node).mount(clone.volume), ['file'])).toEqual([]);
    await kubelet(node).unmount(clone.volume);
    await user.remove('pods', 'clone');
    await user.remove('claims', 'clone');
  });

  it('go with their namespace, all at once', async () => {
    const { cluster, kube } = scene();
    const namespaces = kube.of(kinds.namespaces);
    await namespaces.create({ metadata: { name: 'doomed' } });
    const user = new User(kube, 'doomed');
    await cluster.takesPods('doomed');
    for (const name of ['one', 'two']) await user.claimWithPod({ name });
    await user.snapshot('taken', 'one');
    await user.claimWithPod({ name: 'restored', dataSource: { kind: 'VolumeSnapshot', name: 'taken' } });
    await user.claimWithPod({ name: 'clone', dataSource: { kind: 'PersistentVolumeClaim', name: 'two' } });
    await user.declareDisk('declared', { size: '64Mi' });
    await user.diskWith('declared', 'Ready');
    await kube.diskSnapshots.create({ ...{ spec: { diskImageName: 'declared' } }, metadata: user.at('declared') });
    await namespaces.removeIfPresent({ name: 'doomed' });
    const left = async () => namespaces.get({ name: 'doomed' });
    await expect.poll(left, { timeout: 120_000, interval: 200 }).toBeUndefined();
  }, 300_000);
});
