import { stat, truncate } from 'node:fs/promises';
import { roundUp } from '../lib/bytes.ts';
import { LaminaError } from '../lib/errors.ts';
import { syncFile } from '../lib/fs-records.ts';
import { readQcow2Header } from '../qemu/qcow2-header.ts';
import { growImage } from '../qemu/qemu-img.ts';
import { sizeUnit } from './create-disk.ts';
import type { Pool } from './pool.ts';
import type { DiskId, DiskRecord, LayerId, LayerRecord } from './records.ts';

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

/**
 * Takes over the size of an image that had grown when something failed, such as writing its records to a full pool. The
 * caller holds the disk's lock. Idempotent; every operation that relies on the recorded size comes after it.
 */
export async function followGrowth(pool: Pool, id: DiskId): Promise<DiskRecord> {
  const disk = pool.disk(id);
  const head = pool.layer(disk.head);
  const file = pool.layout.layerData(head.id, head.format);
  const found = head.format === 'raw' ? (await stat(file)).size : (await readQcow2Header(file)).virtualSizeBytes;
  if (found > head.virtualSizeBytes) await takeOverSize(pool, head.id, found);
  const { virtualSizeBytes } = pool.layer(disk.head);
  return virtualSizeBytes > disk.sizeBytes ? recordSize(pool, id, virtualSizeBytes) : disk;
}

/** The record of a layer follows its image. A partial block at the end of that is filled up. */
export async function takeOverSize(pool: Pool, id: LayerId, sizeBytes: number): Promise<void> {
  const layer = pool.layer(id);
  const size = roundUp(sizeBytes, sizeUnit);
  if (layer.format === 'raw' && size !== sizeBytes) await truncate(pool.layout.layerData(id, 'raw'), size);
  await pool.putLayer({ ...layer, virtualSizeBytes: size });
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
