import type { KeyedLock } from '../../lib/keyed-lock.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Pool } from '../../store/pool.ts';
import type { SpaceGuard } from '../../store/space.ts';
import { takesSpaceAtOnce } from '../../store/space.ts';
import type { DiskRecord } from '../../store/records.ts';
import type { Attacher, AttachRequest, BlockDevice } from '../attach/attachment.ts';

/** What operations on the disks of one pool share. */
export interface DiskContext {
  pool: Pool;
  space: SpaceGuard;
  attacher: Attacher;
  /** One lock a disk: a snapshot and an attach never meet half-way. */
  locks: KeyedLock;
  freezer: Freezer;
  logger: Logger;
}

/** Runs `work` while the file systems mounted from a device are frozen; records how long that was. */
export interface Freezer {
  whileFrozen(diskId: string, device: BlockDevice, work: () => Promise<void>): Promise<void>;
}

/** A disk whose blocks were allocated when it was made, and which shares them with nobody. */
export function isThick(pool: Pool, disk: DiskRecord): boolean {
  return takesSpaceAtOnce(disk.options.preallocation) && pool.layer(disk.head).parent === null;
}

export function attachRequest(pool: Pool, disk: DiskRecord): AttachRequest {
  return {
    diskId: disk.id,
    chain: pool.chain(disk.head),
    viaEngine: disk.options.liveSnapshots && !pool.reflink,
    discard: !isThick(pool, disk),
  };
}
