import type { NodeStageVolumeRequest, NodeStageVolumeResponse } from '../../gen/csi.ts';
import { requireUsableCapability } from '../validation/capability.ts';
import { requireId, requirePath } from '../validation/text.ts';
import type { NodeContext } from './node.ts';

/** Attaches a volume, and makes and mounts its file system. */
export async function stageVolume(
  request: NodeStageVolumeRequest,
  { node, locks }: NodeContext,
): Promise<NodeStageVolumeResponse> {
  const diskId = requireId('volume_id', request.volumeId);
  const stagingPath = requirePath('staging_target_path', request.stagingTargetPath);
  const { access } = requireUsableCapability('volume_capability', request.volumeCapability);
  await locks.withVolume(diskId, () => node.stage({ diskId, stagingPath, access }));
  return {};
}
