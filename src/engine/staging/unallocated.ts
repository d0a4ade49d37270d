import { stat, statfs } from 'node:fs/promises';
import { mountsOf, readMounts } from '../../host/mountinfo.ts';
import { ifErrno } from '../../lib/errors.ts';
import type { Pool } from '../../store/pool.ts';
import type { Attachment } from '../attach/attachment.ts';
import { numberOf } from './device-use.ts';

/**
 * What the file systems of attached disks hold beyond what the disks' images occupy, in bytes: files that are cached and will
 * take space of the pool. ext4 and xfs count a file's blocks before they are written, btrfs does not; what is overwritten in
 * place, below which there is a snapshot, none of them tells. Too much where images are compressed, or blocks are kept back.
 */
export async function unallocatedBytes(
  pool: Pool,
  attachment: (diskId: string) => Promise<Attachment | null>,
): Promise<number> {
  const mounts = await readMounts();
  let bytes = 0;
  for (const id of pool.attachedDisks()) {
    const device = (await attachment(id))?.device;
    const [mount] = device ? await mountsOf(mounts, numberOf(device)) : [];
    // What is unmounted meanwhile is written.
    const found = mount && (await statfs(mount.mountPoint).catch(ifErrno('ENOENT', null)));
    if (!found) continue;
    const heldBytes = (found.blocks - found.bfree) * found.bsize;
    bytes += Math.max(0, heldBytes - (await occupiedBytes(pool, id)));
  }
  return bytes;
}

async function occupiedBytes(pool: Pool, diskId: string): Promise<number> {
  let bytes = 0;
  for (const layer of pool.chain(pool.disk(diskId).head)) {
    // One that is merged away meanwhile is part of the next.
    bytes += ((await stat(layer.path).catch(ifErrno('ENOENT', null)))?.blocks ?? 0) * 512;
  }
  return bytes;
}
