import type { Pool } from './pool.ts';
import type { DiskId, ImageId, SnapshotId } from './records.ts';

/** Removes a detached disk; layers that snapshots or other disks share stay. Idempotent. */
export async function deleteDisk(pool: Pool, id: DiskId): Promise<void> {
  if (pool.disks.has(id)) {
    await pool.removeDisk(id);
    pool.checkpoint('delete-disk/disk-unrecorded');
  }
  await pool.collect();
}

/** Removes a snapshot's name; its layer stays while a disk or another snapshot needs it. Idempotent. */
export async function deleteSnapshot(pool: Pool, id: SnapshotId): Promise<void> {
  if (pool.snapshots.has(id)) {
    await pool.removeSnapshot(id);
    pool.checkpoint('delete-snapshot/snapshot-unrecorded');
  }
  await pool.collect();
}

/** Removes an image's name; its layer stays while a disk or another name needs it. Idempotent. */
export async function deleteImage(pool: Pool, id: ImageId): Promise<void> {
  if (pool.images.has(id)) {
    await pool.removeImage(id);
    pool.checkpoint('delete-image/image-unrecorded');
  }
  await pool.collect();
}
