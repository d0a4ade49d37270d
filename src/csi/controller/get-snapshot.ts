import type { GetSnapshotRequest, GetSnapshotResponse } from '../../gen/csi.ts';
import type { ControllerContext } from './controller.ts';
import { requireSnapshotId, snapshotOf } from './messages.ts';

export async function getSnapshot(
  request: GetSnapshotRequest,
  { disks }: ControllerContext,
): Promise<GetSnapshotResponse> {
  return { snapshot: snapshotOf(await disks.getSnapshot(requireSnapshotId('snapshot_id', request.snapshotId))) };
}
