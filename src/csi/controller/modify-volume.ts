import type { ControllerModifyVolumeRequest, ControllerModifyVolumeResponse } from '../../gen/csi.ts';
import { requireId } from '../validation/text.ts';
import type { ControllerContext } from './controller.ts';
import { parseMutableParameters } from './parameters.ts';

/** Changes what a VolumeAttributesClass can change; what it does not mention stays. */
export async function modifyVolume(
  request: ControllerModifyVolumeRequest,
  { disks, locks }: ControllerContext,
): Promise<ControllerModifyVolumeResponse> {
  const volumeId = requireId('volume_id', request.volumeId);
  const changes = parseMutableParameters(request.mutableParameters);
  await locks.withVolume(volumeId, () => disks.modifyDisk(volumeId, changes));
  return {};
}
