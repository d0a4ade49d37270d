import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Extent } from '../../qemu/data-extents.ts';
import type { DiskRecord } from '../../store/records.ts';
import type { Attachment, BlockDevice } from '../attach/attachment.ts';
import type { StagingStep } from './staging-steps.ts';

/** What staging needs of disks: to make them block devices, and to know what they hold. */
export interface DiskAccess {
  /** @throws LaminaError `disk-not-found` */
  disk(diskId: string): DiskRecord;
  /** Idempotent. @throws LaminaError `engine-dead` where its daemon died: detach first */
  attach(diskId: string): Promise<BlockDevice>;
  /** Idempotent. @throws LaminaError `disk-in-use` while the device is open */
  detach(diskId: string): Promise<void>;
  /** What is there now, or null. */
  attachment(diskId: string): Promise<Attachment | null>;
  /** Makes the device as big as the disk's record says. */
  growDevice(diskId: string): Promise<void>;
  recordFilesystem(diskId: string, filesystem: DiskRecord['filesystem']): Promise<void>;
  /** Makes sure that the disk does not count as blank any more, whatever of what is written to it survives a power cut. */
  expectWrites(diskId: string): Promise<void>;
  /** The parts of an attached disk that may hold anything but zeroes, of what was written out by now. */
  writtenExtents(diskId: string, signal: AbortSignal): AsyncIterable<Extent>;
  /** Whether its blocks are all allocated, and are to stay so. */
  isThick(diskId: string): boolean;
}

/** Writes to mounted disks wait while their pool is nearly full. */
export interface WritePause {
  /** Whether those to this disk do. */
  has(diskId: string): boolean;
  /** Ends the disk's pause, and runs `work` before there could be another one, or whoever asked for it has done the rest. */
  whileNotPaused<T>(diskId: string, work: () => Promise<T>): Promise<T>;
}

/** What the operations of staging share. */
export interface StagingContext {
  disks: DiskAccess;
  pauses: WritePause;
  /** For mounts that live as long as one call. */
  runDir: string;
  checkpoint: Checkpoint<StagingStep>;
}

// The requests below have the shapes of csi/node/node-service.ts, which this folder must not know.

/** How a disk is made visible. `fsType` is null where the caller left it to us. */
export type StagingAccess = { kind: 'block' } | { kind: 'mount'; fsType: string | null; mountFlags: string[] };
export type MountAccess = Extract<StagingAccess, { kind: 'mount' }>;

export interface StageRequest {
  diskId: string;
  stagingPath: string;
  access: StagingAccess;
}

export interface PublishRequest extends StageRequest {
  targetPath: string;
  readOnly: boolean;
  /** At most one target path at a time. */
  singleTarget: boolean;
}

export interface DiskStats {
  /** Null for block access, where only the size is known. */
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
