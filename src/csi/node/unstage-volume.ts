import type { NodeUnstageVolumeRequest, NodeUnstageVolumeResponse } from '../../gen/csi.ts';
import { requireId, requirePath } from '../validation/text.ts';
import type { NodeContext } from './node.ts';

export async function unstageVolume(
  request: NodeUnstageVolumeRequest,
  { node, locks }: NodeContext,
): Promise<NodeUnstageVolumeResponse> {
  const diskId = requireId('volume_id', request.volumeId);
  const stagingPath = requirePath('staging_target_path', request.stagingTargetPath);
  await locks.withVolume(diskId, () => node.unstage({ diskId, stagingPath }));
  return {};
}
