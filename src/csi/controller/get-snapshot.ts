import type { GetSnapshotRequest, GetSnapshotResponse } from '../../gen/csi.ts';
import { requireId } from '../validation/text.ts';
import type { ControllerContext } from './controller.ts';
import { snapshotOf } from './messages.ts';

export async function getSnapshot(
  request: GetSnapshotRequest,
  { disks }: ControllerContext,
): Promise<GetSnapshotResponse> {
  return { snapshot: snapshotOf(await disks.getSnapshot(requireId('snapshot_id', request.snapshotId))) };
}
