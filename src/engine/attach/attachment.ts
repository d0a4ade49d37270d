import type { ChainLayer } from '../../store/records.ts';

/** A block device of this node. */
export interface BlockDevice {
  /** `/dev/loop3`, `/dev/nbd0` */
  path: string;
  major: number;
  minor: number;
}

/** `loop`: raw file on a loop device; `fuse`: daemon, FUSE export, loop device; `nbd`: daemon, kernel NBD device. */
export type AttachedBy = 'loop' | 'fuse' | 'nbd';

/** How a disk is attached at this moment, as found in the kernel and with the supervisor, never from memory. */
export interface Attachment {
  by: AttachedBy;
  /** Null where a daemon runs, or a dead export is mounted, but no device is on it: attach or detach finishes either. */
  device: BlockDevice | null;
  /** `dead`: the daemon is gone, I/O fails; `unresponsive`: it does not answer QMP. */
  state: 'healthy' | 'dead' | 'unresponsive';
}

export interface AttachRequest {
  diskId: string;
  /** Head first. Every layer but the head is opened read-only. */
  chain: readonly ChainLayer[];
  /** A raw head with no backing goes on a plain loop device unless this is set. */
  viaEngine: boolean;
  /** Whether discards reach the file (thin disks) or are ignored (preallocated disks keep their blocks). */
  discard: boolean;
}

/** Makes disks block devices and back. One implementation, engine/attacher.ts; an interface so that tests can fake it. */
export interface Attacher {
  /** Idempotent: finds what an earlier call made, finishes what a crash left half-way. @throws `engine-dead` where its daemon died: detach first. */
  attach(request: AttachRequest): Promise<BlockDevice>;
  /** What is there now, or null. */
  find(request: Pick<AttachRequest, 'diskId' | 'chain'>): Promise<Attachment | null>;
  /** Idempotent; also clears what a dead daemon left. @throws `disk-in-use` while the device is open (mounted). */
  detach(request: Pick<AttachRequest, 'diskId' | 'chain'>): Promise<void>;
  /** After the file of a plain loop disk grew: makes the device as big. For a disk of the engine grows image, export and device. */
  resize(request: Pick<AttachRequest, 'diskId' | 'chain'>, sizeBytes: number): Promise<void>;
  /** Adds `overlay` to the running daemon without switching to it, so that `switchHead` is short. Idempotent. */
  prepareHead(diskId: string, overlay: ChainLayer, discard: boolean): Promise<void>;
  /** From here on the disk writes to `overlay`, prepared before; what it wrote until now stays in the layers below. */
  switchHead(diskId: string, overlayLayerId: string): Promise<void>;
  /** Id of the layer the daemon writes to, or null where the disk has no daemon. @throws `engine-dead`, `engine-unresponsive` */
  activeHead(diskId: string): Promise<string | null>;
  /**
   * Has the daemon read layers below the head as they were merged since it opened them, and let go of the former files.
   * Idempotent. @returns whether no daemon of the disk has these open: not while a snapshot is unfinished.
   * @throws `engine-unresponsive`
   */
  followMerges(request: Pick<AttachRequest, 'diskId' | 'chain' | 'discard'>): Promise<boolean>;
  /** Ids of all disks that the supervisor has a daemon or the remains of one for. */
  daemonDiskIds(): Promise<string[]>;
}
