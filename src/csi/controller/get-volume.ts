import type { ControllerGetVolumeRequest, ControllerGetVolumeResponse } from '../../gen/csi.ts';
import { requireId } from '../validation/text.ts';
import type { ControllerContext } from './controller.ts';
import { volumeOf } from './messages.ts';

export async function getVolume(
  request: ControllerGetVolumeRequest,
  { disks }: ControllerContext,
): Promise<ControllerGetVolumeResponse> {
  const disk = await disks.getDisk(requireId('volume_id', request.volumeId));
  return { volume: volumeOf(disk), status: { publishedNodeIds: disk.attached ? [disk.nodeName] : [] } };
}
