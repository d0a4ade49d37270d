import {
  type NodePublishVolumeRequest,
  type NodePublishVolumeResponse,
  VolumeCapability_AccessMode_Mode as Mode,
} from '../../gen/csi.ts';
import { LaminaError } from '../../lib/errors.ts';
import { requireUsableCapability } from '../validation/capability.ts';
import { requireId, requirePath } from '../validation/text.ts';
import type { NodeContext } from './node.ts';

/** Makes a staged volume visible to one workload. */
export async function publishVolume(
  request: NodePublishVolumeRequest,
  { node, locks }: NodeContext,
): Promise<NodePublishVolumeResponse> {
  const diskId = requireId('volume_id', request.volumeId);
  const targetPath = requirePath('target_path', request.targetPath);
  const { access, mode } = requireUsableCapability('volume_capability', request.volumeCapability);
  if (request.stagingTargetPath === '') {
    throw new LaminaError('not-staged', 'staging_target_path was not given: stage the volume first, and say where');
  }
  const stagingPath = requirePath('staging_target_path', request.stagingTargetPath);
  const readOnly = request.readonly || mode === Mode.SINGLE_NODE_READER_ONLY;
  const singleTarget = mode === Mode.SINGLE_NODE_SINGLE_WRITER;
  await locks.withVolume(diskId, () =>
    node.publish({ diskId, stagingPath, targetPath, access, readOnly, singleTarget }),
  );
  return {};
}
