import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { findCondition } from '../../src/kube/conditions.ts';
import { GiB } from '../../src/lib/bytes.ts';
import * as kinds from '../cluster/kinds.ts';
import { stories } from './stories.ts';

stories('a pool that is not mounted', (scene) => {
  it('is told of, with no new one in its mount point, and is served as soon as it is mounted', async () => {
    const { cluster, kube, user } = scene();
    await cluster.addNode('worker-m');
    const node = cluster.simulatedNode('worker-m', [{ name: 'mounted', filesystem: 'ext4', sizeBytes: GiB }]);
    await node.start();
    const pool = async () => kube.diskPools.get({ name: 'mounted.worker-m' });
    const ready = async () => findCondition((await pool())?.status.conditions ?? [], 'Ready');
    const reason = async () => (await ready())?.reason;
    await expect.poll(reason, { timeout: 20_000 }).toBe('Serving');
    const poolId = (await pool())?.status.poolId;
    await user.declareDisk('kept', { size: '64Mi', pool: 'mounted' });
    await user.diskWith('kept', 'Ready');

    await node.plugin.stop();
    execFileSync('umount', [node.pool('mounted')]);
    await node.plugin.start();
    await expect.poll(reason, { timeout: 40_000 }).toBe('PoolMissing');
    expect((await ready())?.message).toContain(`had the pool ${poolId} there: mount`);

    // Mounts it again; the plugin runs already.
    await node.start();
    await expect.poll(reason, { timeout: 40_000 }).toBe('Serving');
    expect((await pool())?.status.poolId).toBe(poolId);
    await user.diskWith('kept', 'Ready');
    await user.remove('diskImages', 'kept');
    await user.gone('diskImages', 'kept');

    await node.plugin.stop();
    execFileSync('umount', [node.pool('mounted')]);
    await node.plugin.start();
    await expect.poll(reason, { timeout: 40_000 }).toBe('PoolMissing');
    await kube.diskPools.removeIfPresent({ name: 'mounted.worker-m' });
    await expect.poll(reason, { timeout: 40_000 }).toBe('Serving');
    expect((await pool())?.status.poolId).not.toBe(poolId);

    await node.destroy();
    await kube.nodes.removeIfPresent({ name: 'worker-m' });
    await kube.of(kinds.csiNodes).removeIfPresent({ name: 'worker-m' });
  }, 240_000);
});
