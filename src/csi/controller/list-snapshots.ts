import type { ListSnapshotsRequest, ListSnapshotsResponse } from '../../gen/csi.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { pageOf } from '../validation/paging.ts';
import type { ControllerContext } from './controller.ts';
import type { DiskService, SnapshotInfo } from './disk-service.ts';
import { snapshotOf } from './messages.ts';

/** Snapshots, of one volume or with one id where that is asked for; ids that are not there give an empty list. */
export async function listSnapshots(
  request: ListSnapshotsRequest,
  { disks }: ControllerContext,
): Promise<ListSnapshotsResponse> {
  const { snapshotId, sourceVolumeId } = request;
  const found = snapshotId === '' ? await disks.listSnapshots() : await snapshotsWithId(disks, snapshotId);
  const wanted = sourceVolumeId === '' ? found : found.filter(({ diskId }) => diskId === sourceVolumeId);
  const { page, nextToken } = pageOf(wanted, request);
  return { entries: page.map((snapshot) => ({ snapshot: snapshotOf(snapshot) })), nextToken };
}

async function snapshotsWithId(disks: DiskService, id: string): Promise<SnapshotInfo[]> {
  try {
    return [await disks.getSnapshot(id)];
  } catch (error) {
    if (isLaminaError(error, 'snapshot-not-found')) return [];
    throw error;
  }
}
