import type { DeleteSnapshotRequest, DeleteSnapshotResponse } from '../../gen/csi.ts';
import { requireId } from '../validation/text.ts';
import type { ControllerContext } from './controller.ts';

/** Deletes a snapshot; volumes that were restored from it live on. One that is not there is deleted already. */
export async function deleteSnapshot(
  request: DeleteSnapshotRequest,
  { disks, locks }: ControllerContext,
): Promise<DeleteSnapshotResponse> {
  const snapshotId = requireId('snapshot_id', request.snapshotId);
  await locks.withSnapshot(snapshotId, () => disks.deleteSnapshot(snapshotId));
  return {};
}
