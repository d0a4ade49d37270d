import type { NodeExpandVolumeRequest, NodeExpandVolumeResponse } from '../../gen/csi.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { requireServedCapabilities } from '../validation/capability.ts';
import { parseCapacityRange } from '../validation/capacity-range.ts';
import { requireExistingPath, requireId } from '../validation/text.ts';
import type { NodeContext } from './node.ts';

/** Makes device and file system as big as the volume. */
export async function expandVolume(
  request: NodeExpandVolumeRequest,
  { node, locks }: NodeContext,
): Promise<NodeExpandVolumeResponse> {
  const diskId = requireId('volume_id', request.volumeId);
  const path = requireExistingPath('volume_path', request.volumePath);
  const { requiredBytes } = parseCapacityRange(request.capacityRange);
  if (request.volumeCapability) requireServedCapabilities('volume_capability', [request.volumeCapability]);
  const { sizeBytes } = await locks.withVolume(diskId, () => node.expand({ diskId, path }));
  if (sizeBytes < requiredBytes) {
    throw new LaminaError(
      'size-out-of-range',
      `volume ${diskId} was to have ${formatBytes(requiredBytes)} and has ${formatBytes(sizeBytes)}; call ControllerExpandVolume first`,
    );
  }
  return { capacityBytes: BigInt(sizeBytes) };
}
