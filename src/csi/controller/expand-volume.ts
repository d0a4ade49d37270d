import type { ControllerExpandVolumeRequest, ControllerExpandVolumeResponse } from '../../gen/csi.ts';
import { requireServedCapabilities } from '../validation/capability.ts';
import { requireCapacityRange } from '../validation/capacity-range.ts';
import { requireId } from '../validation/text.ts';
import type { ControllerContext } from './controller.ts';

/** Grows a volume, in use or not. The node grows the file system after it, and what else is on top of the disk. */
export async function expandVolume(
  request: ControllerExpandVolumeRequest,
  { disks, locks }: ControllerContext,
): Promise<ControllerExpandVolumeResponse> {
  const volumeId = requireId('volume_id', request.volumeId);
  const size = requireCapacityRange(request.capacityRange);
  if (request.volumeCapability) requireServedCapabilities('volume_capability', [request.volumeCapability]);
  const disk = await locks.withVolume(volumeId, () => disks.growDisk(volumeId, size));
  return { capacityBytes: BigInt(disk.sizeBytes), nodeExpansionRequired: true };
}
