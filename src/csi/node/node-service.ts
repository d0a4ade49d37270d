/**
 * What the CSI Node service needs of a node: disks made visible at paths. Implemented by engine/staging.ts.
 * Every failure is a LaminaError; sizes are bytes. All methods are idempotent.
 */
export interface NodeService {
  /**
   * Attaches a disk and, for a mount, makes and mounts its file system at `stagingPath`, grown to the disk's size.
   * @throws `disk-not-found`; `target-in-use` where it is staged there otherwise; `filesystem-mismatch`; `filesystem-unknown`
   */
  stage(request: StageRequest): Promise<void>;
  /** Unmounts and detaches; a disk that is not staged is unstaged. */
  unstage(request: { diskId: string; stagingPath: string }): Promise<void>;
  /** @throws `disk-not-found`, `not-staged`, `target-in-use` (same target, other parameters), `publish-refused` (a second target for a single writer) */
  publish(request: PublishRequest): Promise<void>;
  /** Removes the target path as well. */
  unpublish(request: { diskId: string; targetPath: string }): Promise<void>;
  /** @throws `disk-not-found`, `path-not-found` where the disk is not at `path`, `engine-dead` */
  stats(request: { diskId: string; path: string }): Promise<VolumeStats>;
  /** Makes device and file system as big as the disk. @throws `disk-not-found`, `path-not-found` */
  expand(request: { diskId: string; path: string }): Promise<{ sizeBytes: number }>;
  /** What is wrong with the disk on this node, or null. @throws `disk-not-found` */
  health(diskId: string): Promise<string | null>;
  readonly nodeName: string;
}

/** How a volume is made visible. `fsType` is null where the caller left it to us. */
export type VolumeAccess = { kind: 'block' } | { kind: 'mount'; fsType: string | null; mountFlags: string[] };

export interface StageRequest {
  diskId: string;
  stagingPath: string;
  access: VolumeAccess;
}

export interface PublishRequest extends StageRequest {
  targetPath: string;
  readOnly: boolean;
  /** False for RWO and SINGLE_NODE_MULTI_WRITER; true for ReadWriteOncePod: at most one target path. */
  singleTarget: boolean;
}

export interface VolumeStats {
  /** Null for block volumes, of which only the size is known. */
  usage: {
    totalBytes: number;
    availableBytes: number;
    usedBytes: number;
    totalInodes: number;
    freeInodes: number;
    usedInodes: number;
  } | null;
  sizeBytes: number;
}
