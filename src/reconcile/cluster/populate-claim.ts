import { annotations, apiGroup, driverName, nodeTopologyKey, parameterNames } from '../../api/names.ts';
import type { DiskImage } from '../../api/objects.ts';
import { isAlreadyExists } from '../../kube/client/api-error.ts';
import { findCondition, isTrue } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  selectedNodeAnnotation,
} from '../../kube/kinds/core-kinds.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { ClaimWish, StorageClass, VolumeAttributesClass } from '../../kube/kinds/storage-kinds.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import { type ErrorCode, isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import { formatQuantity } from '../../lib/quantity.ts';
import type { ElectedCaches } from './caches.ts';
import type { ControllerStep } from './controller-steps.ts';

/** A volume for a claim, in the words of Kubernetes. */
export interface ClaimVolumeRequest {
  name: string;
  claim: ClaimWish;
  storageClass: StorageClass;
  mutableParameters: Record<string, string>;
  /** `namespace/name` of the DiskImage. */
  image: string;
}

export interface ClaimVolume {
  handle: string;
  sizeBytes: number;
  nodeName: string;
}

export interface ClaimPopulatorOptions {
  claims: ResourceClient<PersistentVolumeClaim>;
  wishes: ResourceClient<ClaimWish>;
  storageClasses: ResourceClient<StorageClass>;
  attributesClasses: ResourceClient<VolumeAttributesClass>;
  volumes: ResourceClient<PersistentVolume>;
  caches: Pick<ElectedCaches, 'claims' | 'images'>;
  /** Makes the volume as CreateVolume does, or finds the one of that name. @throws as that does */
  createVolume: (request: ClaimVolumeRequest) => Promise<ClaimVolume>;
  events: EventRecorder;
  checkpoint: Checkpoint<ControllerStep>;
}

/** What waits for something that does not wake it is looked at again after this. */
const retryMs = 15_000;
/** What the API server refuses, such as more than a quota allows, is for who made the claim to see; its troubles are not. */
const untold: readonly ErrorCode[] = ['api-unavailable', 'api-conflict', 'leadership-lost'];
const defaultFsType = 'ext4';

/**
 * Provisions claims whose `dataSourceRef` names a DiskImage, which csi-provisioner leaves to others: the volume starts
 * from the image's layers, so that no byte is copied and there is no other claim to copy it from.
 */
export class ClaimPopulator {
  readonly #options: ClaimPopulatorOptions;

  constructor(options: ClaimPopulatorOptions) {
    this.#options = options;
  }

  watch(controller: Controller): void {
    const { claims, images } = this.#options.caches;
    const isOpen = (claim: PersistentVolumeClaim | undefined) =>
      claim !== undefined && imageNameOf(claim) !== undefined && !claim.volumeName;
    const openClaimOf = ({ annotations: given }: DiskImage['metadata']) => {
      const key = given[annotations.claim] ?? '';
      return isOpen(claims.cache.get(key)) ? [key] : [];
    };
    controller.watch(claims, (claim) => (isOpen(claim) ? [keyOf(claim.metadata)] : []));
    controller.watch(images, ({ metadata, spec, status }) => {
      // The volume of a claim, which was waited for as long as one call may.
      if (!spec.sealed) return isTrue(status.conditions, 'Ready') ? openClaimOf(metadata) : [];
      const waiting = claims.cache.list().filter((claim) => isOpen(claim) && imageKeyOf(claim) === keyOf(metadata));
      return waiting.map((claim) => keyOf(claim.metadata));
    });
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const claim = this.#options.caches.claims.cache.get(key);
    if (!claim || imageNameOf(claim) === undefined || claim.volumeName || isBeingDeleted(claim)) return 'done';
    try {
      return await this.#provision(claim, signal);
    } catch (error) {
      if (!isLaminaError(error) || untold.includes(error.code)) throw error;
      if (error.code === 'busy') this.#tell(claim, 'Normal', 'Provisioning', messageOf(error));
      else this.#tell(claim, 'Warning', 'ProvisioningFailed', messageOf(error));
      // Nobody else asks the scheduler for another node.
      if (claim.selectedNode !== undefined && error.kind === 'exhausted') await this.#giveBack(claim, signal);
      return { againAfterMs: retryMs };
    }
  };

  async #provision(claim: PersistentVolumeClaim, signal: AbortSignal): Promise<ReconcileResult> {
    const { wishes, createVolume, checkpoint } = this.#options;
    const wish = await wishes.get(claim.metadata, { signal });
    if (!wish || wish.metadata.uid !== claim.metadata.uid) return 'done';
    const storageClass = await this.#classOf(wish, signal);
    if (!storageClass) return 'done';
    const image = this.#imageOf(claim);
    if (typeof image === 'string') {
      this.#tell(claim, 'Normal', 'WaitingForDiskImage', image);
      return { againAfterMs: retryMs };
    }
    if (storageClass.isLate && claim.selectedNode === undefined) return 'done';
    const name = `pvc-${claim.metadata.uid}`;
    const mutableParameters = await this.#attributesOf(wish, signal);
    const request = { name, claim: wish, storageClass, mutableParameters, image: keyOf(image.metadata) };
    const volume = await createVolume(request);
    checkpoint('populate-claim/volume-made');
    await this.#declareVolume(request, volume, signal);
    checkpoint('populate-claim/volume-declared');
    this.#tell(
      claim,
      'Normal',
      'ProvisioningSucceeded',
      `The volume ${name} starts from the DiskImage ${request.image}.`,
    );
    return 'done';
  }

  /** Undefined where it is not of this driver, and the claim not ours. */
  async #classOf({ storageClassName }: ClaimWish, signal: AbortSignal): Promise<StorageClass | undefined> {
    // The default one is filled in by Kubernetes.
    if (storageClassName === undefined) return undefined;
    const storageClass = await this.#options.storageClasses.get({ name: storageClassName }, { signal });
    if (!storageClass) {
      throw new LaminaError('invalid-parameter', `there is no StorageClass ${storageClassName}: create it`);
    }
    return storageClass.provisioner === driverName ? storageClass : undefined;
  }

  async #attributesOf(
    { volumeAttributesClassName: name }: ClaimWish,
    signal: AbortSignal,
  ): Promise<Record<string, string>> {
    if (name === undefined) return {};
    const attributes = await this.#options.attributesClasses.get({ name }, { signal });
    if (!attributes) throw new LaminaError('invalid-parameter', `there is no VolumeAttributesClass ${name}`);
    if (attributes.driverName === driverName) return attributes.parameters;
    throw new LaminaError(
      'invalid-parameter',
      `the VolumeAttributesClass ${name} is for ${attributes.driverName}: name one for ${driverName}, or none`,
    );
  }

  /** @returns what is waited for where it is not ready. @throws LaminaError `invalid-parameter` where it never will be */
  #imageOf(claim: PersistentVolumeClaim): DiskImage | string {
    const { populator, metadata } = claim;
    if (populator?.namespace !== undefined && populator.namespace !== metadata.namespace) {
      throw new LaminaError(
        'invalid-parameter',
        `dataSourceRef names a DiskImage in the namespace ${populator.namespace}; it has to be in that of the claim: declare one there`,
      );
    }
    const key = imageKeyOf(claim);
    const image = this.#options.caches.images.cache.get(key);
    if (!image) return `There is no DiskImage ${key} yet.`;
    if (!image.spec.sealed) {
      throw new LaminaError(
        'invalid-parameter',
        `the DiskImage ${key} is not sealed, so that its content may change: name one that is`,
      );
    }
    const ready = findCondition(image.status.conditions, 'Ready');
    const { progress, copies } = image.status;
    const isElsewhere = ready?.reason === 'NodeGone' && copies.some((copy) => copy.ready);
    if (ready?.status === 'True' || isElsewhere) return image;
    return `The DiskImage ${key} is not ready${progress ? ` (${progress})` : ''}: ${ready?.message ?? 'nothing is known of it yet.'}`;
  }

  async #declareVolume(request: ClaimVolumeRequest, volume: ClaimVolume, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.volumes.create(manifestOf(request, volume), { signal });
    } catch (error) {
      // An earlier try has; its name is that of the claim's uid.
      if (!isAlreadyExists(error)) throw error;
    }
  }

  async #giveBack({ metadata }: PersistentVolumeClaim, signal: AbortSignal): Promise<void> {
    const patch = {
      metadata: { resourceVersion: metadata.resourceVersion, annotations: { [selectedNodeAnnotation]: null } },
    };
    await this.#options.claims.mergePatch(metadata, patch, { signal });
  }

  #tell({ metadata }: PersistentVolumeClaim, type: 'Normal' | 'Warning', reason: string, note: string): void {
    const subject = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata };
    this.#options.events.record(subject, { type, reason, action: 'Provision', note });
  }
}

function imageNameOf({ populator }: PersistentVolumeClaim): string | undefined {
  return populator?.apiGroup === apiGroup && populator.kind === 'DiskImage' ? populator.name : undefined;
}

function imageKeyOf(claim: PersistentVolumeClaim): string {
  return keyOf({ namespace: claim.metadata.namespace, name: imageNameOf(claim) ?? '' });
}

/** The file system of a volume of that class, as the chart has csi-provisioner take it. */
export function fsTypeOf({ parameters }: StorageClass): string {
  return parameters[parameterNames.fsType] ?? defaultFsType;
}

/** The PersistentVolume as csi-provisioner makes it, which deletes the volume with its claim. */
function manifestOf({ name, claim, storageClass }: ClaimVolumeRequest, volume: ClaimVolume) {
  const { metadata, isBlock, accessModes, volumeAttributesClassName } = claim;
  const { namespace, name: claimName, uid } = metadata;
  const fsType = fsTypeOf(storageClass);
  const expression = { key: nodeTopologyKey, operator: 'In', values: [volume.nodeName] };
  return {
    metadata: {
      name,
      annotations: {
        'pv.kubernetes.io/provisioned-by': driverName,
        'volume.kubernetes.io/provisioner-deletion-secret-name': '',
        'volume.kubernetes.io/provisioner-deletion-secret-namespace': '',
      },
      finalizers: ['external-provisioner.volume.kubernetes.io/finalizer'],
    },
    spec: {
      capacity: { storage: formatQuantity(volume.sizeBytes) },
      accessModes,
      volumeMode: isBlock ? 'Block' : 'Filesystem',
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy,
      storageClassName: storageClass.metadata.name,
      ...(volumeAttributesClassName === undefined ? {} : { volumeAttributesClassName }),
      ...(storageClass.mountOptions.length > 0 ? { mountOptions: storageClass.mountOptions } : {}),
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name: claimName, uid },
      csi: { driver: driverName, volumeHandle: volume.handle, ...(isBlock ? {} : { fsType }) },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [expression] }] } },
    },
  };
}
