import { expect, it } from 'vitest';
import { GiB } from '../../src/lib/bytes.ts';
import * as kinds from '../cluster/kinds.ts';
import { stories } from './stories.ts';

stories('a node that is gone for good', (scene) => {
  it('keeps its objects as long as its Node is there, and lets them be deleted after that', async () => {
    const { cluster, kube, user } = scene();
    await cluster.addNode('worker-c');
    const node = cluster.simulatedNode('worker-c', [{ name: 'default', filesystem: 'ext4', sizeBytes: GiB }]);
    await node.start();
    await user.claimWithPod({ name: 'volume', node: 'worker-c' });
    await user.snapshot('taken', 'volume');
    await user.declareDisk('declared', { size: '64Mi', nodeName: 'worker-c' });
    await user.diskWith('declared', 'Ready');
    await node.destroy();

    await user.remove('pods', 'volume');
    await user.remove('claims', 'volume');
    await user.remove('diskImages', 'declared');
    await user.remove('snapshots', 'taken');
    // The node may come back: what it has is not given up.
    const left = async () => (await kube.diskImages.list()).map(({ spec }) => spec.nodeName);
    const start = performance.now();
    await expect.poll(() => performance.now() - start > 5000, { timeout: 10_000 }).toBe(true);
    expect(await left()).toEqual(['worker-c', 'worker-c']);

    await kube.nodes.removeIfPresent({ name: 'worker-c' });
    await kube.of(kinds.csiNodes).removeIfPresent({ name: 'worker-c' });
    await expect.poll(left, { timeout: 40_000 }).toEqual([]);
    const pools = async () => (await kube.diskPools.list()).map(({ spec }) => spec.nodeName);
    // After the grace time of this controller, which is 20 s.
    await expect.poll(pools, { timeout: 60_000 }).not.toContain('worker-c');
  }, 180_000);

  it('says of what it held that it is gone, without anybody asking', async () => {
    const { cluster, kube, user } = scene();
    await cluster.addNode('worker-d');
    const node = cluster.simulatedNode('worker-d', [{ name: 'default', filesystem: 'ext4', sizeBytes: GiB }]);
    await node.start();
    await user.declareDisk('lost', { size: '64Mi', nodeName: 'worker-d' });
    await user.diskWith('lost', 'Ready');
    await node.destroy();
    await kube.nodes.removeIfPresent({ name: 'worker-d' });
    await kube.of(kinds.csiNodes).removeIfPresent({ name: 'worker-d' });
    const image = await user.diskWith('lost', 'Ready', 'False');
    expect(image.status.conditions.find(({ type }) => type === 'Ready')?.reason).toBe('NodeGone');
    await user.remove('diskImages', 'lost');
    await user.gone('diskImages', 'lost');
    // What comes later for a node that is not there says so as well.
    await user.declareDisk('late', { size: '64Mi', nodeName: 'worker-d' });
    await user.diskWith('late', 'Ready', 'False');
    await user.remove('diskImages', 'late');
    await user.gone('diskImages', 'late');
  });
});
