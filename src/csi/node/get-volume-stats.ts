import {
  type NodeGetVolumeStatsRequest,
  type NodeGetVolumeStatsResponse,
  type VolumeUsage,
  VolumeUsage_Unit as Unit,
} from '../../gen/csi.ts';
import { requireExistingPath, requireId } from '../validation/text.ts';
import type { NodeContext } from './node.ts';
import type { VolumeStats } from './node-service.ts';

export async function getVolumeStats(
  request: NodeGetVolumeStatsRequest,
  { node }: NodeContext,
): Promise<NodeGetVolumeStatsResponse> {
  const diskId = requireId('volume_id', request.volumeId);
  const path = requireExistingPath('volume_path', request.volumePath);
  return { usage: usageOf(await node.stats({ diskId, path })) };
}

function usageOf({ usage, sizeBytes }: VolumeStats): VolumeUsage[] {
  if (!usage) return [{ unit: Unit.BYTES, total: BigInt(sizeBytes), available: 0n, used: 0n }];
  return [
    {
      unit: Unit.BYTES,
      total: BigInt(usage.totalBytes),
      available: BigInt(usage.availableBytes),
      used: BigInt(usage.usedBytes),
    },
    {
      unit: Unit.INODES,
      total: BigInt(usage.totalInodes),
      available: BigInt(usage.freeInodes),
      used: BigInt(usage.usedInodes),
    },
  ];
}
