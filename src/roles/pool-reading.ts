import { diskPoolName } from '../api/names.ts';
import type { DiskPool } from '../api/objects.ts';
import type { ObjectCache } from '../kube/cache/object-cache.ts';
import type { NodePools, ServedPool } from '../reconcile/node/node-pools.ts';
import { allocatedBytes } from '../store/allocated.ts';
import type { PoolReading } from '../telemetry/pool-metrics.ts';

/** A pool as metrics show it. @param orphans what it holds without an object in the cluster */
export async function readPool(
  { context: { pool, space }, pauses }: Pick<ServedPool, 'context' | 'pauses'>,
  names: { pool: string; node: string },
  orphans = 0,
): Promise<PoolReading> {
  const { totalBytes, freeBytes, criticalBytes, provisionedBytes, thinBytes, thickBytes } = await space.space();
  return {
    ...names,
    sizeBytes: totalBytes,
    freeBytes,
    criticalMarkBytes: criticalBytes,
    provisionedBytes,
    allocatedBytes: await allocatedBytes(pool),
    availableThinBytes: thinBytes,
    availableThickBytes: thickBytes,
    disks: pool.disks.size,
    pausedDisks: pauses.count,
    snapshots: [...pool.snapshots.values()].filter(({ transient }) => !transient).length,
    images: 0,
    orphans,
  };
}

/** The pools of a node that are served, with the orphans that their DiskPools tell of. */
export async function readNodePools(
  pools: NodePools,
  objects: ObjectCache<DiskPool>,
  node: string,
): Promise<PoolReading[]> {
  const readings = pools.places.map(async ({ name }) => {
    const state = pools.state(name);
    if (state?.kind !== 'serving') return [];
    const orphans = objects.get(diskPoolName(name, node))?.status.orphanCount ?? 0;
    return [await readPool(state.pool, { pool: name, node }, orphans)];
  });
  return (await Promise.all(readings)).flat();
}
