import {
  type NodeGetVolumeHealthRequest,
  type NodeGetVolumeHealthResponse,
  VolumeHealthErrorType as HealthStatus,
} from '../../gen/csi.ts';
import { requireId } from '../validation/text.ts';
import type { NodeContext } from './node.ts';

/** What is wrong with a volume on this node, staged or not. All we can tell of one is that it does not serve I/O. */
export async function getVolumeHealth(
  request: NodeGetVolumeHealthRequest,
  { node }: NodeContext,
): Promise<NodeGetVolumeHealthResponse> {
  const volumeId = requireId('volume_id', request.volumeId);
  const message = await node.health(volumeId);
  const healthStatuses =
    message === null ? [] : [{ status: HealthStatus.INACCESSIBLE, reason: 'DiskUnhealthy', message }];
  return { volumeHealth: { volumeId, healthStatuses } };
}
