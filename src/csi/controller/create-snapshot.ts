import type { CreateSnapshotRequest, CreateSnapshotResponse } from '../../gen/csi.ts';
import { requireId, requireName } from '../validation/text.ts';
import { parseTopologyRequirement } from '../validation/topology.ts';
import type { ControllerContext } from './controller.ts';
import { snapshotOf } from './messages.ts';
import { checkSnapshotParameters } from './parameters.ts';

/** Takes a snapshot of a volume, in use or not; it is ready when this returns. */
export async function createSnapshot(
  request: CreateSnapshotRequest,
  { disks, locks }: ControllerContext,
): Promise<CreateSnapshotResponse> {
  const name = requireName('name', request.name);
  const diskId = requireId('source_volume_id', request.sourceVolumeId);
  checkSnapshotParameters(request.parameters);
  const nodes = parseTopologyRequirement(request.accessibilityRequirements);
  const snapshot = await locks.withSnapshot(disks.snapshotIdOf(name), () =>
    disks.createSnapshot({ name, diskId }, nodes),
  );
  return { snapshot: snapshotOf(snapshot) };
}
