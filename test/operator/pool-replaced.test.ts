import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { annotations } from '../../src/api/names.ts';
import { findCondition } from '../../src/kube/conditions.ts';
import { GiB } from '../../src/lib/bytes.ts';
import * as kinds from '../cluster/kinds.ts';
import { stories } from './stories.ts';

const sh = (script: string, ...args: string[]) => execFileSync('sh', ['-euc', script, 'sh', ...args]);

stories('a pool in whose place another one is mounted', (scene) => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'lamina-other-disk-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  it('is told of with both ids, and the other one is not served or changed until somebody wants it', async () => {
    const { cluster, kube, user } = scene();
    await cluster.addNode('worker-r');
    const node = cluster.simulatedNode('worker-r', [{ name: 'mounted', filesystem: 'ext4', sizeBytes: GiB }]);
    await node.start();
    const mountpoint = node.pool('mounted');
    const pool = async () => kube.diskPools.get({ name: 'mounted.worker-r' });
    const ready = async () => findCondition((await pool())?.status.conditions ?? [], 'Ready');
    const reason = async () => (await ready())?.reason;
    await expect.poll(reason, { timeout: 20_000 }).toBe('Serving');
    const poolId = (await pool())?.status.poolId ?? '';
    await user.declareDisk('kept', { size: '64Mi', pool: 'mounted' });
    await user.diskWith('kept', 'Ready');

    // Another disk, with a pool of its own.
    const otherId = '2f0c7a52-3a53-4b0e-9d35-6a3a5a3a1c22';
    const record = readFileSync(path.join(mountpoint, 'pool.json'), 'utf8').replace(poolId, otherId);
    const disk = path.join(directory, 'disk');
    sh('truncate -s 256M "$1"; mkfs.ext4 -q "$1"', disk);
    const exchange = async () => {
      await node.plugin.stop();
      sh('umount "$2"; mount -o loop "$1" "$2"', disk, mountpoint);
      sh('cd "$1"; mkdir -p layers disks snapshots images incoming', mountpoint);
      writeFileSync(path.join(mountpoint, 'pool.json'), record);
      await node.plugin.start();
    };
    const putBack = async () => {
      await node.plugin.stop();
      execFileSync('umount', [mountpoint]);
      await node.start();
    };

    await exchange();
    await expect.poll(reason, { timeout: 40_000 }).toBe('PoolReplaced');
    expect((await ready())?.message).toContain(`holds the pool ${otherId}, though this node had the pool ${poolId}`);
    const told = async () =>
      (await kube.events.list())
        .filter((event) => event.reason === 'PoolReplaced')
        .map(({ involvedObject }) => involvedObject.name);
    await expect.poll(told, { timeout: 20_000 }).toEqual(['mounted.worker-r']);
    expect(existsSync(path.join(mountpoint, 'cluster.json'))).toBe(false);
    // What was said stays said while it is tried again, and nobody calls the disk lost.
    const start = performance.now();
    await expect
      .poll(async () => [await reason(), performance.now() - start > 12_000], { timeout: 20_000 })
      .toEqual(['PoolReplaced', true]);
    expect(await told()).toEqual(['mounted.worker-r']);
    await user.diskWith('kept', 'Ready');

    await putBack();
    await expect.poll(reason, { timeout: 40_000 }).toBe('Serving');
    expect((await pool())?.status.poolId).toBe(poolId);
    await user.diskWith('kept', 'Ready');

    await exchange();
    await expect.poll(reason, { timeout: 40_000 }).toBe('PoolReplaced');
    const wanted = { metadata: { annotations: { [annotations.takeOver]: otherId } } };
    await kube.diskPools.mergePatch({ name: 'mounted.worker-r' }, wanted);
    await expect.poll(reason, { timeout: 40_000 }).toBe('Serving');
    expect((await pool())?.status.poolId).toBe(otherId);
    const image = await user.diskWith('kept', 'Ready', 'False');
    expect(findCondition(image.status.conditions, 'Ready')?.reason).toBe('Lost');
    await user.remove('diskImages', 'kept');
    await user.gone('diskImages', 'kept');

    await node.destroy();
    await kube.nodes.removeIfPresent({ name: 'worker-r' });
    await kube.of(kinds.csiNodes).removeIfPresent({ name: 'worker-r' });
  }, 300_000);
});
