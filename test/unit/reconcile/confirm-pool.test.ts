import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskPools } from '../../../src/api/objects.ts';
import { PoolConfirmer } from '../../../src/reconcile/confirm-pool.ts';
import { ClusterScene, failureOf, until } from '../../fakes/cluster-scene.ts';

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
