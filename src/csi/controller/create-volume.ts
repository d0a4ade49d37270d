import type { CreateVolumeRequest, CreateVolumeResponse } from '../../gen/csi.ts';
import { type Capability, requireServedCapabilities } from '../validation/capability.ts';
import { parseCapacityRange } from '../validation/capacity-range.ts';
import { invalid, requireName } from '../validation/text.ts';
import { parseTopologyRequirement } from '../validation/topology.ts';
import type { ControllerContext } from './controller.ts';
import { parseContentSource, volumeOf } from './messages.ts';
import { parseMutableParameters, parseVolumeParameters } from './parameters.ts';

/** Makes a volume: blank, from a snapshot, or as a clone of another volume. */
export async function createVolume(
  request: CreateVolumeRequest,
  { disks, locks }: ControllerContext,
): Promise<CreateVolumeResponse> {
  const name = requireName('name', request.name);
  const capabilities = requireServedCapabilities('volume_capabilities', request.volumeCapabilities);
  const size = parseCapacityRange(request.capacityRange);
  const source = parseContentSource(request.volumeContentSource);
  const { options, pool, transfer, claim, fsType } = parseVolumeParameters(request.parameters);
  const changes = parseMutableParameters(request.mutableParameters);
  if (fsType !== null) requireSameFilesystem(fsType, capabilities);
  const placement = { nodes: parseTopologyRequirement(request.accessibilityRequirements), pool, transfer, claim };
  const disk = await locks.withVolume(disks.diskIdOf(name), () =>
    disks.createDisk({ name, size, source, options: { ...options, ...changes } }, placement),
  );
  return { volume: volumeOf(disk) };
}

/** The class's file system reaches the node in the capability, by the orchestrator; a class that is not followed is refused. */
function requireSameFilesystem(fsType: string, capabilities: readonly Capability[]): void {
  for (const { access } of capabilities) {
    if (access.kind === 'mount' && access.fsType !== fsType) {
      throw invalid(
        `parameters: csi.storage.k8s.io/fstype is '${fsType}', but the capability asks for '${access.fsType ?? ''}'; set fs_type of the capability`,
      );
    }
  }
}
