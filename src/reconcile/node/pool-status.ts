import type { DiskPoolManifest } from '../../api/objects.ts';
import type { DataPath } from '../../engine/attach/data-path.ts';
import { formatRoundedQuantity } from '../../lib/quantity.ts';
import { filesystemOf } from '../../store/open.ts';
import { allocatedBytes } from '../../store/allocated.ts';
import type { PoolSpace } from '../../store/space.ts';
import type { ServedPool } from './node-pools.ts';

type Status = NonNullable<DiskPoolManifest['status']>;

/** What a served pool is and holds, as members of its DiskPool's status. Its conditions and orphans are others' to say. */
export async function describePool({ context, dataPath }: ServedPool, version: string): Promise<Status> {
  const { pool, space } = context;
  return {
    poolId: pool.id,
    path: pool.layout.root,
    version,
    fileSystem: {
      type: await filesystemOf(pool),
      reflink: pool.reflink,
      directIO: dataPath.imageDirectIo,
      // Of every file system that a pool can be on.
      holePunching: true,
    },
    dataPath: dataPathOf(dataPath),
    space: { ...spaceOf(await space.space()), allocated: formatRoundedQuantity(await allocatedBytes(pool), 'up') },
    disks: pool.disks.size,
    snapshots: [...pool.snapshots.values()].filter(({ transient }) => !transient).length,
  };
}

function dataPathOf({ backend, exportDirectIo, rawDirectIo, imageDirectIo }: DataPath): Status['dataPath'] {
  return { backend, exportDirectIO: exportDirectIo, rawDirectIO: rawDirectIo, imageDirectIO: imageDirectIo };
}

function spaceOf(space: PoolSpace) {
  return {
    total: formatRoundedQuantity(space.totalBytes, 'down'),
    free: formatRoundedQuantity(space.freeBytes, 'down'),
    reserved: formatRoundedQuantity(space.reservedBytes, 'up'),
    criticalMark: formatRoundedQuantity(space.criticalBytes, 'up'),
    overcommit: String(space.overcommit),
    provisioned: formatRoundedQuantity(space.provisionedBytes, 'up'),
    availableThin: formatRoundedQuantity(space.thinBytes, 'down'),
    availableThick: formatRoundedQuantity(space.thickBytes, 'down'),
  };
}
