import type { GetCapacityRequest, GetCapacityResponse } from '../../gen/csi.ts';
import { parseCapabilities, whyUnsupported } from '../validation/capability.ts';
import { placeOf } from '../validation/topology.ts';
import type { ControllerContext } from './controller.ts';
import { parseVolumeParameters } from './parameters.ts';

const nothing: GetCapacityResponse = { availableCapacity: 0n, maximumVolumeSize: 0n, minimumVolumeSize: undefined };

/** Room for volumes of these parameters and capabilities in this place; none where no such volume can be made. */
export async function getCapacity(
  request: GetCapacityRequest,
  { disks }: ControllerContext,
): Promise<GetCapacityResponse> {
  const { options, pool } = parseVolumeParameters(request.parameters);
  if (request.volumeCapabilities.length > 0) {
    const capabilities = parseCapabilities('volume_capabilities', request.volumeCapabilities);
    if (whyUnsupported(capabilities) !== null) return nothing;
  }
  const place = request.accessibleTopology ? placeOf(request.accessibleTopology) : 'any';
  if (place === 'none') return nothing;
  const node = place === 'any' ? null : place.node;
  const capacity = await disks.capacity({ preallocation: options.preallocation }, pool, node);
  return {
    availableCapacity: BigInt(capacity.availableBytes),
    maximumVolumeSize: BigInt(capacity.maximumVolumeBytes),
    minimumVolumeSize: BigInt(capacity.minimumVolumeBytes),
  };
}
