import type { NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse } from '../../gen/csi.ts';
import { requireId, requirePath } from '../validation/text.ts';
import type { NodeContext } from './node.ts';

export async function unpublishVolume(
  request: NodeUnpublishVolumeRequest,
  { node, locks }: NodeContext,
): Promise<NodeUnpublishVolumeResponse> {
  const diskId = requireId('volume_id', request.volumeId);
  const targetPath = requirePath('target_path', request.targetPath);
  await locks.withVolume(diskId, () => node.unpublish({ diskId, targetPath }));
  return {};
}
