/**
 * What the CSI Controller service needs of disks and snapshots. Implemented by the local store (`standalone`) and,
 * in a cluster, by custom resources. Every failure is a LaminaError; sizes are bytes.
 */
export interface DiskService {
  /**
   * Makes a disk, or finds the one an earlier call of the same name made.
   * @throws `name-taken` where one of that name differs in size range, options or source; `size-out-of-range`;
   *   `disk-not-found`, `snapshot-not-found`, `image-not-found` for the source; `pool-full`; `topology-unsatisfiable` where no allowed node
   *   can have it; `invalid-parameter` for a pool that there is not; `busy`.
   */
  createDisk(request: CreateDiskRequest, placement: Placement): Promise<DiskInfo>;
  /** Idempotent: a disk that is not there is deleted. @throws `disk-in-use` while it is attached. */
  deleteDisk(diskId: string): Promise<void>;
  /** @throws `disk-not-found` */
  getDisk(diskId: string): Promise<DiskInfo>;
  /** Ordered by id. */
  listDisks(): Promise<DiskInfo[]>;
  /** Grows a disk, attached or not; a disk that is big enough is left alone. @throws `disk-not-found`, `pool-full`, `size-out-of-range` */
  growDisk(diskId: string, size: SizeRange): Promise<DiskInfo>;
  /** Changes what can be changed of a living disk; takes effect at its next attach. @throws `disk-not-found` */
  modifyDisk(diskId: string, change: { liveSnapshots?: boolean }): Promise<DiskInfo>;

  /**
   * Takes a snapshot, or finds the one of that name; it is where its disk is.
   * @throws `name-taken` (other disk), `disk-not-found`, `live-snapshot-unsupported`, `pool-full`, `topology-unsatisfiable`
   */
  createSnapshot(request: { name: string; diskId: string }, nodes: NodeRequirement): Promise<SnapshotInfo>;
  /** Idempotent. */
  deleteSnapshot(snapshotId: string): Promise<void>;
  /** @throws `snapshot-not-found` */
  getSnapshot(snapshotId: string): Promise<SnapshotInfo>;
  /** Ordered by id. */
  listSnapshots(): Promise<SnapshotInfo[]>;

  /** Room for new disks of these options, on one node or (null) on all together. @throws `invalid-parameter` for a pool that there is not */
  capacity(options: Pick<DiskOptions, 'preallocation'>, pool: string, node: string | null): Promise<CapacityInfo>;
  /** @throws `invalid-parameter` where there is no pool of that name */
  requirePool(name: string): Promise<void>;
  /** Ids are derived of names, so that retries and concurrent calls meet on the same lock. */
  diskIdOf(name: string): string;
  snapshotIdOf(name: string): string;
}

export interface DiskOptions {
  format: 'qcow2' | 'raw';
  preallocation: 'off' | 'metadata' | 'falloc' | 'full';
  clusterSizeBytes: number | null;
  liveSnapshots: boolean;
}

/** A CSI CapacityRange; 0 is "not said". */
export interface SizeRange {
  requiredBytes: number;
  limitBytes: number;
}

export interface CreateDiskRequest {
  name: string;
  size: SizeRange;
  options: DiskOptions;
  source: DiskSource | null;
}

/** What a disk starts from. The id of an image is `namespace/name` of its DiskImage. */
export interface DiskSource {
  kind: 'snapshot' | 'disk' | 'image';
  id: string;
}

/** Golden images only; snapshots, too; nothing. Disks never are, as they change. */
export const transferModes = ['images', 'always', 'never'] as const;
export type TransferMode = (typeof transferModes)[number];

/** Where a new disk is to be, and for whom. */
export interface Placement {
  nodes: NodeRequirement;
  /** Name of the pool. */
  pool: string;
  /** What may be brought from another node, where the pod is to be elsewhere than the source. */
  transfer: TransferMode;
  /** `namespace/name` of the PersistentVolumeClaim, where the orchestrator has told it. */
  claim: string | null;
}

/** The nodes that a volume has to be usable on. */
export interface NodeRequirement {
  /** Any of them will do; null for any node that there is. */
  allowed: readonly string[] | null;
  /** Of the allowed ones those that would be nice, the best first. */
  preferred: readonly string[];
}

export interface DiskInfo {
  id: string;
  sizeBytes: number;
  source: DiskSource | null;
  /** What is wrong with it, for a person to read; null where nothing is known to be. */
  unhealthy: string | null;
  /** The node that has it, for topology. */
  nodeName: string;
  /** Whether a node has it attached. */
  attached: boolean;
}

export interface SnapshotInfo {
  id: string;
  diskId: string;
  sizeBytes: number;
  createdAt: Date;
  ready: boolean;
}

export interface CapacityInfo {
  availableBytes: number;
  maximumVolumeBytes: number;
  minimumVolumeBytes: number;
}
