import type { SnapshotRecord } from '../../store/records.ts';
import { settleSnapshots } from '../../store/recover.ts';
import { type SnapshotRequest, takeSnapshot } from '../../store/take-snapshot.ts';
import { followGrowth } from '../../store/grow-disk.ts';
import type { DiskContext } from './disk-context.ts';
import { findLive } from './live-disk.ts';

/**
 * Takes a snapshot of a disk, attached or not, or finds the one that an interrupted call took. The caller holds the
 * disk's lock.
 *
 * @throws LaminaError `disk-not-found`, `live-snapshot-unsupported`, `pool-full`
 */
export async function snapshotDisk(
  context: DiskContext,
  diskId: string,
  request: SnapshotRequest,
): Promise<SnapshotRecord> {
  const { pool, space } = context;
  const { id } = pool.disk(diskId);
  const live = await findLive(context, pool.disk(diskId));
  await settleSnapshots(pool, id, live);
  const settled = pool.snapshots.get(request.id);
  if (settled) return settled;
  return space.admit(0, 'off', async () => takeSnapshot(pool, await followGrowth(pool, id), request, live));
}
