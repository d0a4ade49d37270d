import path from 'node:path';
import { expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';

stories('while the API server is away', (scene) => {
  it('volumes are used, staged and unstaged, and all goes on when it is back', async () => {
    const { cluster, kube, user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'used' });
    const { volume: later, node: laterNode } = await user.claimWithPod({ name: 'later' });
    const ledger = new Ledger();
    const mounted = await kubelet(node).mount(volume);
    ledger.write(path.join(mounted, 'before'), MiB);
    const roles = [cluster.controller, ...cluster.nodes.flatMap(({ engine, plugin }) => [engine, plugin])];
    const pids = roles.map(({ pid }) => pid);

    await cluster.controlPlane.killApiServer();
    ledger.write(path.join(mounted, 'meanwhile'), MiB);
    ledger.write(path.join(await kubelet(laterNode).mount(later), 'later'), MiB);
    await kubelet(node).unmount(volume);
    expect(ledger.differences(await kubelet(node).mount(volume), ['before', 'meanwhile'])).toEqual([]);
    await cluster.controlPlane.startApiServer(() => kube.isReady());

    await user.claim({ name: 'new' });
    await user.pod({ name: 'new', claims: ['new'] });
    // The sidecars and the scheduler come back later and later, the longer it was away.
    await user.bound('new', 150_000);
    await user.snapshot('taken', 'used');
    await user.declareDisk('declared', { size: '64Mi' });
    await user.diskWith('declared', 'Ready');
    expect(roles.map(({ pid }) => pid)).toEqual(pids);
    await kubelet(node).unmount(volume);
    await kubelet(laterNode).unmount(later);
    await user.remove('pods', 'used', 'later', 'new');
    await user.remove('claims', 'used', 'later', 'new');
    await user.remove('snapshots', 'taken');
    await user.remove('diskImages', 'declared');
  }, 300_000);
});
