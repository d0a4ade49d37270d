import type { NodeService as NodeServiceDefinition } from '../../gen/csi.ts';
import type { OperationLocks } from '../operation-locks.ts';
import type { RpcMethods } from '../rpc.ts';
import { nodeGetCapabilities } from './capabilities.ts';
import { expandVolume } from './expand-volume.ts';
import { getInfo } from './get-info.ts';
import { getVolumeHealth } from './get-volume-health.ts';
import { getVolumeStats } from './get-volume-stats.ts';
import type { NodeService } from './node-service.ts';
import { publishVolume } from './publish-volume.ts';
import { stageVolume } from './stage-volume.ts';
import { unpublishVolume } from './unpublish-volume.ts';
import { unstageVolume } from './unstage-volume.ts';

/** What the RPCs of the Node service work with. */
export interface NodeContext {
  node: NodeService;
  locks: OperationLocks;
}

export function nodeMethods(context: NodeContext): RpcMethods<NodeServiceDefinition> {
  return {
    nodeGetCapabilities,
    nodeGetInfo: () => getInfo(context),
    nodeStageVolume: (request) => stageVolume(request, context),
    nodeUnstageVolume: (request) => unstageVolume(request, context),
    nodePublishVolume: (request) => publishVolume(request, context),
    nodeUnpublishVolume: (request) => unpublishVolume(request, context),
    nodeGetVolumeStats: (request) => getVolumeStats(request, context),
    nodeGetVolumeHealth: (request) => getVolumeHealth(request, context),
    nodeExpandVolume: (request) => expandVolume(request, context),
  };
}
