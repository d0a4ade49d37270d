import type { DeleteVolumeRequest, DeleteVolumeResponse } from '../../gen/csi.ts';
import { requireId } from '../validation/text.ts';
import type { ControllerContext } from './controller.ts';

/** Deletes a volume; its snapshots and clones live on. One that is not there is deleted already. */
export async function deleteVolume(
  request: DeleteVolumeRequest,
  { disks, locks }: ControllerContext,
): Promise<DeleteVolumeResponse> {
  const volumeId = requireId('volume_id', request.volumeId);
  await locks.withVolume(volumeId, () => disks.deleteDisk(volumeId));
  return {};
}
