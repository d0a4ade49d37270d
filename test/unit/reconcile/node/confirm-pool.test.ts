import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { annotations } from '../../../../src/api/names.ts';
import { diskPools } from '../../../../src/api/objects.ts';
import { namespaceType } from '../../../../src/kube/kinds/core-kinds.ts';
import { PoolConfirmer } from '../../../../src/reconcile/node/confirm-pool.ts';
import type { ServedPool } from '../../../../src/reconcile/node/node-pools.ts';
import { PoolLayout } from '../../../../src/store/layout.ts';
import { ClusterScene, failureOf, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let stop: AbortController;

beforeEach(async () => {
  scene = await ClusterScene.start();
  stop = new AbortController();
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const poolId = '1f0c7a52-3a53-4b0e-9d35-6a3a5a3a1c11';
const place = { name: 'default', directory: '/pools/default' };

function confirmer(nodeName = 'a'): PoolConfirmer {
  const { clock, logger } = scene;
  const client = scene.connect();
  const { pools } = scene.caches(client);
  return new PoolConfirmer({ nodeName, client, pools, clock, random: () => 0, logger });
}

describe('a new pool', () => {
  it('is made on a node that had none, or whose pool was never served', async () => {
    await confirmer().assertNew(place, stop.signal);
    scene.addNode({ name: 'a' });
    await confirmer().assertNew(place, stop.signal);
  });

  it('is not made where the node had one of that name, and the message says which and what to do', async () => {
    scene.addNode({ name: 'a' }).reportPool({ poolId });
    const asked = confirmer();
    const error = await failureOf(asked.assertNew(place, stop.signal));
    expect(error.code).toBe('pool-missing');
    expect(error.message).toContain(`/pools/default is empty, though this node had the pool ${poolId} there: mount`);
    expect(error.message).toContain('kubectl delete diskpool default.a');
    // Another pool, and that of another node, are no matter.
    await asked.assertNew({ ...place, name: 'fast' }, stop.signal);
    await confirmer('b').assertNew(place, stop.signal);
  });

  it('is made where somebody has deleted the DiskPool, even if the plugin has declared it again', async () => {
    const node = scene.addNode({ name: 'a' });
    node.reportPool({ poolId });
    const asked = confirmer();
    await failureOf(asked.assertNew(place, stop.signal));
    scene.remove(diskPools, 'default.a');
    scene.create(diskPools, { name: 'default.a' }, { poolName: 'default', nodeName: 'a' });
    await until(() =>
      asked.assertNew(place, stop.signal).then(
        () => true,
        () => false,
      ),
    );
  });

  it('is not made before the API server has said what there is', async () => {
    await scene.server.stop();
    const asked = confirmer();
    let isDecided = false;
    const decision = failureOf(asked.assertNew(place, stop.signal)).finally(() => {
      isDecided = true;
    });
    await until(() => scene.logger.entries.length > 0);
    expect(isDecided).toBe(false);
    stop.abort();
    expect((await decision).name).toBe('AbortError');
  });

  it('is not made where the DiskPool is not understood', async () => {
    scene.addNode({ name: 'a' });
    scene.patch(diskPools, 'default.a', { spec: { poolName: 7 } });
    expect((await failureOf(confirmer().assertNew(place, stop.signal))).code).toBe('resource-invalid');
  });
});

describe('a pool that is there', () => {
  const otherId = '2f0c7a52-3a53-4b0e-9d35-6a3a5a3a1c22';
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'lamina-confirm-'));
    await mkdir(path.join(directory, 'tmp'));
    scene.create(namespaceType, { name: 'kube-system' }, {});
  });
  afterEach(() => rm(directory, { recursive: true }));

  /** As far as it is looked at. */
  const opened = (id: string) => ({ context: { pool: { id, layout: new PoolLayout(directory) } } }) as ServedPool;
  const claimFile = () => path.join(directory, 'cluster.json');
  const claimed = () => (existsSync(claimFile()) ? JSON.parse(readFileSync(claimFile(), 'utf8')).cluster : null);
  const uid = () => scene.find(namespaceType, 'kube-system', '')?.metadata.uid;
  const takeOver = (id: string) =>
    scene.patch(diskPools, 'default.a', { metadata: { annotations: { [annotations.takeOver]: id } } });

  it('becomes the one of this cluster, where the node had it or none', async () => {
    scene.addNode({ name: 'a' });
    await confirmer().confirm(place, opened(poolId), stop.signal);
    expect(claimed()).toBe(uid());
    scene.addNode({ name: 'b' }).reportPool({ poolId });
    await confirmer('b').confirm(place, opened(poolId), stop.signal);
  });

  it('is left alone where the node had another one there, until somebody wants just this one', async () => {
    scene.addNode({ name: 'a' }).reportPool({ poolId });
    const refusal = () => failureOf(confirmer().confirm(place, opened(otherId), stop.signal));
    const error = await refusal();
    expect(error.code).toBe('pool-replaced');
    expect(error.message).toContain(`holds the pool ${otherId}, though this node had the pool ${poolId} there`);
    expect(error.message).toContain(
      `kubectl annotate --overwrite diskpool default.a lamina.storage/take-over=${otherId}`,
    );
    expect(claimed()).toBe(null);

    takeOver(poolId);
    expect((await refusal()).code).toBe('pool-replaced');
    takeOver(otherId);
    await confirmer().confirm(place, opened(otherId), stop.signal);
    expect(claimed()).toBe(uid());
  });

  it('of another cluster is left alone, until somebody wants it', async () => {
    scene.addNode({ name: 'a' });
    await confirmer().confirm(place, opened(poolId), stop.signal);
    const others = readFileSync(claimFile(), 'utf8');
    scene.remove(namespaceType, 'kube-system', '');
    scene.create(namespaceType, { name: 'kube-system' }, {});
    const error = await failureOf(confirmer().confirm(place, opened(poolId), stop.signal));
    expect(error.code).toBe('pool-foreign');
    expect(error.message).toContain(`diskpool default.a lamina.storage/take-over=${poolId}`);
    expect(readFileSync(claimFile(), 'utf8')).toBe(others);
    takeOver(poolId);
    await confirmer().confirm(place, opened(poolId), stop.signal);
    expect(claimed()).toBe(uid());
  });
});
