import { parameterNames, provisionerMetadataNames } from '../../api/names.ts';
import { createVolume } from '../../csi/controller/create-volume.ts';
import type { DiskService } from '../../csi/controller/disk-service.ts';
import { imageSnapshotId } from '../../csi/controller/messages.ts';
import { parseVolumeParameters } from '../../csi/controller/parameters.ts';
import { OperationLocks } from '../../csi/operation-locks.ts';
import { placeOf } from '../../csi/validation/topology.ts';
import {
  type CreateVolumeRequest,
  type VolumeCapability,
  VolumeCapability_AccessMode_Mode as Mode,
} from '../../gen/csi.ts';
import type { StorageClass } from '../../kube/kinds/storage-kinds.ts';
import { LaminaError } from '../../lib/errors.ts';
import { parseQuantity } from '../../lib/quantity.ts';
import { type ClaimVolume, type ClaimVolumeRequest, fsTypeOf } from '../../reconcile/cluster/populate-claim.ts';
import { takesSpaceAtOnce } from '../../store/space.ts';

/** As csi-provisioner understands them. */
const modes: Record<string, Mode> = {
  ReadWriteOnce: Mode.SINGLE_NODE_MULTI_WRITER,
  ReadWriteOncePod: Mode.SINGLE_NODE_SINGLE_WRITER,
  ReadOnlyMany: Mode.MULTI_NODE_READER_ONLY,
  ReadWriteMany: Mode.MULTI_NODE_MULTI_WRITER,
};

/** What a class asks of pools. @throws LaminaError `invalid-parameter` as CreateVolume does */
export function readClass(storageClass: StorageClass): { pool: string; isThick: boolean } {
  const { options, pool } = parseVolumeParameters(parametersOf(storageClass));
  return { pool, isThick: takesSpaceAtOnce(options.preallocation) };
}

/** Makes volumes for claims just as if csi-provisioner asked for them. The function throws what CreateVolume does. */
export function claimVolumes(disks: DiskService): (request: ClaimVolumeRequest) => Promise<ClaimVolume> {
  const locks = new OperationLocks();
  return async (request) => {
    const { volume } = await createVolume(volumeRequestOf(request), { disks, locks });
    const place = volume?.accessibleTopology[0] && placeOf(volume.accessibleTopology[0]);
    if (!volume || typeof place !== 'object') {
      throw new LaminaError('busy', `the volume ${request.name} is on no node yet; try again`);
    }
    return { handle: volume.volumeId, sizeBytes: Number(volume.capacityBytes), nodeName: place.node };
  };
}

function volumeRequestOf({
  name,
  claim,
  storageClass,
  mutableParameters,
  image,
}: ClaimVolumeRequest): CreateVolumeRequest {
  const [claimName, claimNamespace, volumeName] = provisionerMetadataNames;
  return {
    name,
    capacityRange: { requiredBytes: bytesOf(claim.requests), limitBytes: bytesOf(claim.limits) },
    volumeCapabilities: claim.accessModes.map((mode) => capabilityOf(mode, claim.isBlock, storageClass)),
    parameters: {
      ...parametersOf(storageClass),
      [claimName]: claim.metadata.name,
      [claimNamespace]: claim.metadata.namespace ?? '',
      [volumeName]: name,
    },
    secrets: {},
    volumeContentSource: { type: { $case: 'snapshot', value: { snapshotId: imageSnapshotId(image) } } },
    accessibilityRequirements: topologyOf(storageClass),
    mutableParameters,
  };
}

/** Those that csi-provisioner passes on: others that begin so are for itself, such as Secrets. */
function parametersOf({ parameters }: StorageClass): Record<string, string> {
  const isPassedOn = (name: string) => !name.startsWith('csi.storage.k8s.io/') || name === parameterNames.fsType;
  return Object.fromEntries(Object.entries(parameters).filter(([name]) => isPassedOn(name)));
}

/** What the class allows, one topology for each combination of values. The scheduler sees to it where it chooses the node. */
function topologyOf({ isLate, allowedTopologies }: StorageClass): CreateVolumeRequest['accessibilityRequirements'] {
  if (isLate || allowedTopologies.length === 0) return undefined;
  const requisite = allowedTopologies.flatMap(({ matchLabelExpressions }) =>
    matchLabelExpressions.reduce<Record<string, string>[]>(
      (places, { key, values }) => places.flatMap((place) => values.map((value) => ({ ...place, [key]: value }))),
      [{}],
    ),
  );
  return { requisite: requisite.map((segments) => ({ segments })), preferred: [] };
}

function capabilityOf(accessMode: string, isBlock: boolean, storageClass: StorageClass): VolumeCapability {
  return {
    accessMode: { mode: modes[accessMode] ?? Mode.UNKNOWN },
    accessType: isBlock
      ? { $case: 'block', value: {} }
      : {
          $case: 'mount',
          value: { fsType: fsTypeOf(storageClass), mountFlags: storageClass.mountOptions, volumeMountGroup: '' },
        },
  };
}

function bytesOf(quantity: string | undefined): bigint {
  if (quantity === undefined) return 0n;
  const bytes = parseQuantity(quantity);
  if (bytes === undefined) throw new LaminaError('size-out-of-range', `${quantity} is more than any volume can have`);
  return BigInt(bytes);
}
