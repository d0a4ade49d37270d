import { truncate } from 'node:fs/promises';
import { LaminaError } from '../lib/errors.ts';
import { syncFile } from '../lib/fs-records.ts';
import { growImage } from '../qemu/qemu-img.ts';
import type { Pool } from './pool.ts';
import type { DiskId, DiskRecord, LayerRecord } from './records.ts';

/**
 * Makes a disk's head layer and records bigger; `sizeBytes` is a multiple of sizeUnit. File first, records after: a
 * crash in between leaves a file that is bigger than its record says, and recovery takes that size over.
 *
 * @param growLive grows an image that a daemon has open; null where nobody has.
 */
export async function growDisk(
  pool: Pool,
  disk: DiskRecord,
  sizeBytes: number,
  growLive: ((head: LayerRecord) => Promise<void>) | null,
): Promise<DiskRecord> {
  const head = pool.layer(disk.head);
  if (growLive) await growLive(head);
  else await growFile(pool, disk, head, sizeBytes);
  // Or a power cut could leave a file that is smaller than its record says.
  await syncFile(pool.layout.layerData(head.id, head.format));
  pool.checkpoint('grow-disk/image-grown');
  await pool.putLayer({ ...head, virtualSizeBytes: sizeBytes });
  pool.checkpoint('grow-disk/layer-recorded');
  return recordSize(pool, disk.id, sizeBytes);
}

async function growFile(pool: Pool, disk: DiskRecord, head: LayerRecord, sizeBytes: number): Promise<void> {
  const { format, virtualSizeBytes } = head;
  const file = pool.layout.layerData(head.id, format);
  // An overlay shares what lies below it, so there is nothing preallocated to keep.
  const preallocation = head.parent === null ? disk.options.preallocation : 'off';
  try {
    await growImage({ file, format, sizeBytes, preallocation });
  } catch (error) {
    // A raw file may have grown a part of the way before the pool was full.
    if (format === 'raw') await truncate(file, virtualSizeBytes);
    throw error;
  }
}

async function recordSize(pool: Pool, id: DiskId, sizeBytes: number): Promise<DiskRecord> {
  const record = { ...pool.disk(id), sizeBytes };
  await pool.putDisk(record);
  pool.checkpoint('grow-disk/disk-recorded');
  return record;
}

/** @throws LaminaError `disk-in-use` for a disk that a daemon would grow without its preallocation */
export function assertGrowsLive(disk: DiskRecord, head: LayerRecord): void {
  const kept = disk.options.preallocation === 'off' || head.parent !== null || head.format === 'raw';
  if (kept) return;
  throw new LaminaError(
    'disk-in-use',
    `disk ${disk.id} is a preallocated qcow2 image, which can only be grown with its preallocation while it is detached: stop the pod that uses it`,
  );
}
