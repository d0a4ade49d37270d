import type { DeleteSnapshotRequest, DeleteSnapshotResponse } from '../../gen/csi.ts';
import type { ControllerContext } from './controller.ts';
import { requireSnapshotId } from './messages.ts';

/** Deletes a snapshot; volumes that were restored from it live on. One that is not there is deleted already. */
export async function deleteSnapshot(
  request: DeleteSnapshotRequest,
  { disks, locks }: ControllerContext,
): Promise<DeleteSnapshotResponse> {
  const snapshotId = requireSnapshotId('snapshot_id', request.snapshotId);
  await locks.withSnapshot(snapshotId, () => disks.deleteSnapshot(snapshotId));
  return {};
}
