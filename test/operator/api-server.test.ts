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
    const roles = cluster.nodes.flatMap(({ engine, plugin }) => [engine, plugin]);
    const pids = roles.map(({ pid }) => pid);

    await cluster.controlPlane.killApiServer();
    ledger.write(path.join(mounted, 'meanwhile'), MiB);
    ledger.write(path.join(await kubelet(laterNode).mount(later), 'later'), MiB);
    await kubelet(node).unmount(volume);
    expect(ledger.differences(await kubelet(node).mount(volume), ['before', 'meanwhile'])).toEqual([]);
    await cluster.controlPlane.startApiServer(() => kube.isReady());

    // Of a class that needs no scheduler: that may leave a pod for five minutes which it sees before its claim.
    await user.claim({ name: 'new', storageClassName: 'immediate' });
    const phase = async () => {
      // A controller that could not renew its lease for ten seconds has ended: kubelet starts it again.
      await cluster.controller.start();
      return (await kube.claims.get(user.at('new')))?.status?.phase;
    };
    // The sidecars come back later and later, the longer it was away.
    await expect.poll(phase, { timeout: 150_000, interval: 500 }).toBe('Bound');
    await user.snapshot('taken', 'used');
    await user.declareDisk('declared', { size: '64Mi' });
    await user.diskWith('declared', 'Ready');
    expect(roles.map(({ pid }) => pid)).toEqual(pids);
    await kubelet(node).unmount(volume);
    await kubelet(laterNode).unmount(later);
    await user.remove('pods', 'used', 'later');
    await user.remove('claims', 'used', 'later', 'new');
    await user.remove('snapshots', 'taken');
    await user.remove('diskImages', 'declared');
  }, 300_000);
});
