import { provisionerMetadataNames } from '../../api/names.ts';
import { createVolume } from '../../csi/controller/create-volume.ts';
import type { DiskService } from '../../csi/controller/disk-service.ts';
import { imageSnapshotId } from '../../csi/controller/messages.ts';
import { OperationLocks } from '../../csi/operation-locks.ts';
import { placeOf } from '../../csi/validation/topology.ts';
import {
  type CreateVolumeRequest,
  type VolumeCapability,
  VolumeCapability_AccessMode_Mode as Mode,
} from '../../gen/csi.ts';
import { LaminaError } from '../../lib/errors.ts';
import { parseQuantity } from '../../lib/quantity.ts';
import { type ClaimVolume, type ClaimVolumeRequest, fsTypeOf } from '../../reconcile/cluster/populate-claim.ts';

/** As csi-provisioner understands them. */
const modes: Record<string, Mode> = {
  ReadWriteOnce: Mode.SINGLE_NODE_MULTI_WRITER,
  ReadWriteOncePod: Mode.SINGLE_NODE_SINGLE_WRITER,
  ReadOnlyMany: Mode.MULTI_NODE_READER_ONLY,
  ReadWriteMany: Mode.MULTI_NODE_MULTI_WRITER,
};

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
      ...storageClass.parameters,
      [claimName]: claim.metadata.name,
      [claimNamespace]: claim.metadata.namespace ?? '',
      [volumeName]: name,
    },
    secrets: {},
    volumeContentSource: { type: { $case: 'snapshot', value: { snapshotId: imageSnapshotId(image) } } },
    accessibilityRequirements: undefined,
    mutableParameters,
  };
}

function capabilityOf(
  accessMode: string,
  isBlock: boolean,
  storageClass: ClaimVolumeRequest['storageClass'],
): VolumeCapability {
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
