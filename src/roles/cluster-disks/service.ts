import type {
  CapacityInfo,
  CreateDiskRequest,
  DiskInfo,
  DiskOptions,
  DiskService,
  NodeRequirement,
  Placement,
  SizeRange,
  SnapshotInfo,
} from '../../csi/controller/disk-service.ts';
import { imageKeyOf } from '../../csi/controller/messages.ts';
import { keyOf } from '../../kube/objects.ts';
import { LaminaError } from '../../lib/errors.ts';
import { roomFor } from '../../reconcile/cluster/placement.ts';
import { maximumSizeBytes, minimumSizeBytes } from '../../store/create-disk.ts';
import { diskIdOf, snapshotIdOf } from '../../store/ids.ts';
import { takesSpaceAtOnce } from '../../store/space.ts';
import { type ClusterDiskContext, isOfCsi, readOfCsi, refIn, requireSynced } from './context.ts';
import { createDisk } from './create.ts';
import { deleteDisk, deleteSnapshot } from './delete.ts';
import { growDisk, modifyDisk } from './grow.ts';
import { diskInfo, imageInfo, isMade, isTaken, snapshotInfo } from './info.ts';
import { assertPool, readSourceImage } from './placing.ts';
import { createSnapshot } from './snapshot.ts';

/**
 * The volumes and snapshots of a cluster, as the CSI Controller service wants to see them: DiskImages and DiskSnapshots
 * in the namespace of the system, which the nodes make and report on. What is to be changed is read of the API server
 * first; the caches, which lag behind, are for waiting and for what only looks.
 */
export class ClusterDiskService implements DiskService {
  readonly #context: ClusterDiskContext;

  constructor(context: ClusterDiskContext) {
    this.#context = context;
  }

  readonly diskIdOf = diskIdOf;
  readonly snapshotIdOf = snapshotIdOf;

  async createDisk(request: CreateDiskRequest, placement: Placement): Promise<DiskInfo> {
    return createDisk(this.#context, request, placement);
  }

  async deleteDisk(diskId: string): Promise<void> {
    await deleteDisk(this.#context, diskId);
  }

  async getDisk(diskId: string): Promise<DiskInfo> {
    const { caches, images } = this.#context;
    requireSynced(caches);
    const ref = refIn(this.#context, diskId);
    const cached = caches.images.cache.get(keyOf(ref));
    const image = cached && isOfCsi(cached) ? cached : await readOfCsi(images, ref);
    if (image && isMade(image)) return diskInfo(image);
    throw new LaminaError('disk-not-found', `there is no volume ${diskId}${image ? ' yet: it is being made' : ''}`);
  }

  async listDisks(): Promise<DiskInfo[]> {
    const { caches, namespace } = this.#context;
    requireSynced(caches);
    const images = caches.images.cache.list().filter((image) => image.metadata.namespace === namespace);
    return images
      .filter((image) => isOfCsi(image) && isMade(image))
      .map(diskInfo)
      .sort(byId);
  }

  async growDisk(diskId: string, size: SizeRange): Promise<DiskInfo> {
    return growDisk(this.#context, diskId, size);
  }

  async modifyDisk(diskId: string, change: { liveSnapshots?: boolean }): Promise<DiskInfo> {
    return modifyDisk(this.#context, diskId, change);
  }

  async createSnapshot(request: { name: string; diskId: string }, nodes: NodeRequirement): Promise<SnapshotInfo> {
    return createSnapshot(this.#context, request, nodes);
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    // A DiskImage is a person's to delete.
    if (imageKeyOf(snapshotId) === undefined) await deleteSnapshot(this.#context, snapshotId);
  }

  async getSnapshot(snapshotId: string): Promise<SnapshotInfo> {
    const { caches, snapshots } = this.#context;
    requireSynced(caches);
    const image = imageKeyOf(snapshotId);
    if (image !== undefined) return imageInfo(snapshotId, await readSourceImage(this.#context, image));
    const ref = refIn(this.#context, snapshotId);
    const cached = caches.snapshots.cache.get(keyOf(ref));
    const snapshot = cached && isOfCsi(cached) ? cached : await readOfCsi(snapshots, ref);
    if (snapshot && isTaken(snapshot)) return snapshotInfo(snapshot);
    throw new LaminaError('snapshot-not-found', `there is no snapshot ${snapshotId}`);
  }

  async listSnapshots(): Promise<SnapshotInfo[]> {
    const { caches, namespace } = this.#context;
    requireSynced(caches);
    const snapshots = caches.snapshots.cache.list().filter((snapshot) => snapshot.metadata.namespace === namespace);
    return snapshots
      .filter((snapshot) => isOfCsi(snapshot) && isTaken(snapshot))
      .map(snapshotInfo)
      .sort(byId);
  }

  async capacity(
    { preallocation }: Pick<DiskOptions, 'preallocation'>,
    pool: string,
    node: string | null,
  ): Promise<CapacityInfo> {
    const { caches, rooms } = this.#context;
    requireSynced(caches);
    assertPool(rooms, pool);
    const isThick = takesSpaceAtOnce(preallocation);
    const usable = rooms.candidates(pool).filter(({ obstacle, nodeName }) => {
      return obstacle === null && (node === null || node === nodeName);
    });
    const bytes = usable.map((candidate) => Math.max(0, roomFor(candidate, { isThick })));
    return {
      availableBytes: bytes.reduce((sum, room) => sum + room, 0),
      maximumVolumeBytes: Math.min(Math.max(0, ...bytes), maximumSizeBytes),
      minimumVolumeBytes: minimumSizeBytes,
    };
  }

  async requirePool(name: string): Promise<void> {
    requireSynced(this.#context.caches);
    assertPool(this.#context.rooms, name);
  }
}

function byId(a: { id: string }, b: { id: string }): number {
  return a.id < b.id ? -1 : 1;
}
