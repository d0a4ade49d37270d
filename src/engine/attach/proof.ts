import { open } from 'node:fs/promises';
import path from 'node:path';
import { LaminaError } from '../../lib/errors.ts';
import { convertToRaw } from '../../qemu/convert.ts';
import { createImage, createOverlay } from '../../qemu/qemu-img.ts';
import { type ChainLayer, layerIdSchema } from '../../store/records.ts';
import type { Attacher } from './attachment.ts';
import { ProbeDisk } from './probe-io.ts';

/** What a proof may use: a directory of the pool and a disk id that nothing else has. */
export interface Scratch {
  directory: string;
  diskId: string;
  sizeBytes: number;
}

/**
 * Attaches a scratch qcow2 disk, writes, takes a live snapshot, writes on, and compares every byte: as the device gives
 * it back, and as the image files hold it after the disk was detached.
 * @throws LaminaError `data-path-unsafe` for bytes that differ, or whatever the attacher throws.
 */
export async function proveEngine(attacher: Attacher, scratch: Scratch): Promise<void> {
  const { diskId, sizeBytes } = scratch;
  const base = layerOf(scratch, 'base', 'qcow2');
  const overlay = layerOf(scratch, 'overlay', 'qcow2');
  await createImage({ file: base.path, format: 'qcow2', sizeBytes, preallocation: 'off', clusterSizeBytes: null });
  const { path: device } = await attacher.attach({ diskId, chain: [base], viaEngine: true, discard: true });
  const disk = new ProbeDisk(sizeBytes);
  await disk.write(device, sizeBytes);
  await expectSame(disk.findDifference(device), 'reading back what was written');

  const shape = { file: overlay.path, backingFile: base.path, backingFormat: base.format };
  await createOverlay({ ...shape, sizeBytes, clusterSizeBytes: null });
  await attacher.prepareHead(diskId, overlay, true);
  await attacher.switchHead(diskId, overlay.id);
  await disk.write(device, sizeBytes / 2);
  await expectSame(disk.findDifference(device), 'reading back after a live snapshot');

  await attacher.detach({ diskId, chain: [overlay, base] });
  const copy = path.join(scratch.directory, 'copy');
  await convertToRaw(overlay, copy);
  await expectSame(disk.findDifferenceInFile(copy), 'reading the image after detaching');
}

/** The same, without a snapshot, for a raw file on a plain loop device. */
export async function proveLoop(attacher: Attacher, scratch: Scratch): Promise<void> {
  const { diskId, sizeBytes } = scratch;
  const raw = layerOf(scratch, 'raw', 'raw');
  await makeSparse(raw.path, sizeBytes);
  const { path: device } = await attacher.attach({ diskId, chain: [raw], viaEngine: false, discard: true });
  const disk = new ProbeDisk(sizeBytes);
  await disk.write(device, sizeBytes);
  await expectSame(disk.findDifference(device), 'reading back what was written');
  await attacher.detach({ diskId, chain: [raw] });
  await expectSame(disk.findDifferenceInFile(raw.path), 'reading the file after detaching');
}

function layerOf(scratch: Scratch, name: string, format: 'qcow2' | 'raw'): ChainLayer {
  const file = path.join(scratch.directory, name);
  return { id: layerIdSchema.parse(name), format, path: file, virtualSizeBytes: scratch.sizeBytes };
}

async function makeSparse(file: string, sizeBytes: number): Promise<void> {
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.truncate(sizeBytes);
  } finally {
    await handle.close();
  }
}

async function expectSame(difference: Promise<number | null>, when: string): Promise<void> {
  const offset = await difference;
  if (offset === null) return;
  throw new LaminaError('data-path-unsafe', `wrong bytes at offset ${offset} when ${when}`);
}
