import type { GetCapacityRequest, GetCapacityResponse } from '../../gen/csi.ts';
import { parseCapabilities, whyUnsupported } from '../validation/capability.ts';
import { includesNode } from '../validation/topology.ts';
import type { ControllerContext } from './controller.ts';
import { parseVolumeParameters } from './parameters.ts';

const nothing: GetCapacityResponse = { availableCapacity: 0n, maximumVolumeSize: 0n, minimumVolumeSize: undefined };

/** Room for volumes of these parameters and capabilities in this place; none where no such volume can be made. */
export async function getCapacity(
  request: GetCapacityRequest,
  { disks, nodeName, poolName }: ControllerContext,
): Promise<GetCapacityResponse> {
  const { options } = parseVolumeParameters(request.parameters, poolName);
  if (request.volumeCapabilities.length > 0) {
    const capabilities = parseCapabilities('volume_capabilities', request.volumeCapabilities);
    if (whyUnsupported(capabilities) !== null) return nothing;
  }
  if (request.accessibleTopology && !includesNode(request.accessibleTopology, nodeName)) return nothing;
  const capacity = await disks.capacity({ preallocation: options.preallocation });
  return {
    availableCapacity: BigInt(capacity.availableBytes),
    maximumVolumeSize: BigInt(capacity.maximumVolumeBytes),
    minimumVolumeSize: BigInt(capacity.minimumVolumeBytes),
  };
}
