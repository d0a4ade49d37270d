import { LaminaError } from '../../lib/errors.ts';
import type { DiskRecord, LayerId } from '../../store/records.ts';
import type { LiveDisk } from '../../store/take-snapshot.ts';
import type { Attachment } from '../attach/attachment.ts';
import { isImageInUse } from '../../qemu/qemu-img.ts';
import type { Pool } from '../../store/pool.ts';
import { attachRequest, type DiskContext } from './disk-context.ts';

/**
 * A disk as it is attached at this moment, for operations of the store; null where nobody writes to it: it is
 * detached, or its daemon died.
 *
 * @throws LaminaError `engine-unresponsive` where its daemon runs but does not answer; `disk-in-use` where one runs that the
 *   supervisor does not know
 */
export async function findLive(context: DiskContext, disk: DiskRecord): Promise<LiveDisk | null> {
  const request = attachRequest(context.pool, disk);
  const attachment = await context.attacher.find(request);
  if (!attachment) await assertNobodyWrites(context.pool, disk);
  if (!attachment || attachment.state === 'dead') return null;
  if (attachment.state === 'unresponsive') {
    throw new LaminaError(
      'engine-unresponsive',
      `the storage daemon of disk ${disk.id} does not answer: stop the pod that uses it, or restart its node`,
    );
  }
  return liveDisk(context, disk, attachment, request.discard);
}

/**
 * A daemon whose files in the run directory are damaged or gone is not known to the supervisor any more, and goes on all the
 * same: what it writes to must not be taken for a disk that rests.
 *
 * @throws LaminaError `disk-in-use`
 */
export async function assertNobodyWrites(pool: Pool, disk: DiskRecord): Promise<void> {
  // Chosen at once: sealed layers may be merged away meanwhile, those that are written to never.
  const writable = pool.chain(disk.head).filter(({ id }) => !pool.layer(id).sealed);
  for (const { path, format } of writable) {
    if (!(await isImageInUse(path, format))) continue;
    throw new LaminaError(
      'disk-in-use',
      `${path} of disk ${disk.id} is open in a process that the engine does not know: unmount the disk, end its qemu-storage-daemon (fuser ${path}), and try again`,
    );
  }
}

function liveDisk(context: DiskContext, disk: DiskRecord, attachment: Attachment, discard: boolean): LiveDisk {
  const { attacher, freezer } = context;
  const { device } = attachment;
  const whileFrozen = (work: () => Promise<void>) => (device ? freezer.whileFrozen(disk.id, device, work) : work());
  return {
    switchable: attachment.by !== 'loop',
    whileFrozen,
    async activeLayer() {
      const active = await attacher.activeHead(disk.id);
      if (active === null) throw new LaminaError('engine-dead', `disk ${disk.id} has no storage daemon any more`);
      return active as LayerId;
    },
    prepare: (overlay) => attacher.prepareHead(disk.id, overlay, discard),
    switchTo: (overlay) => whileFrozen(() => attacher.switchHead(disk.id, overlay.id)),
  };
}
