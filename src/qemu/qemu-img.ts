import { readFile, stat } from 'node:fs/promises';
import { KiB } from '../lib/bytes.ts';
import { run, type RunOptions, toolFailure } from '../lib/exec.ts';
import { LaminaError } from '../lib/errors.ts';
import * as z from 'zod';

/** qemu-img, one function a subcommand. Formats are always given, never probed. */

const quickMs = 60_000;
/** Writing zeroes or merging layers takes as long as the disk takes; the bound only ends what hangs for ever. */
const longMs = 24 * 3600_000;

export type ImageFormat = 'qcow2' | 'raw';
export type ImagePreallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** With subclusters of 4 KiB, the block of every file system: the least that a discard can give back. */
const defaultClusterBytes = 128 * KiB;
/** QEMU's least for clusters with subclusters, of which each has 32. */
const leastExtendedBytes = 16 * KiB;

function clusterSettings(clusterSizeBytes: number | null): string[] {
  const bytes = clusterSizeBytes ?? defaultClusterBytes;
  return [`cluster_size=${bytes}`, ...(bytes >= leastExtendedBytes ? ['extended_l2=on'] : [])];
}

/** A blank image. @throws LaminaError `pool-full` where there is no room for it */
export async function createImage(options: {
  file: string;
  format: ImageFormat;
  sizeBytes: number;
  preallocation: ImagePreallocation;
  /** qcow2 only; null: 128 KiB */
  clusterSizeBytes: number | null;
}): Promise<void> {
  const { file, format, sizeBytes, preallocation, clusterSizeBytes } = options;
  const settings = [`preallocation=${preallocation}`, ...(format === 'qcow2' ? clusterSettings(clusterSizeBytes) : [])];
  const timeoutMs = preallocation === 'off' ? quickMs : longMs;
  const args = ['create', '-q', '-f', format, '-o', settings.join(','), file, String(sizeBytes)];
  await qemuImg(args, timeoutMs, file);
}

/**
 * An empty overlay. `backingFile` goes into the header as it is (relative to the overlay's final place) and is not
 * opened: the overlay may still lie somewhere else.
 */
export async function createOverlay(options: {
  file: string;
  sizeBytes: number;
  backingFile: string;
  backingFormat: ImageFormat;
  clusterSizeBytes: number | null;
}): Promise<void> {
  const { file, sizeBytes, backingFile, backingFormat, clusterSizeBytes } = options;
  const settings = ['-o', clusterSettings(clusterSizeBytes).join(',')];
  const backing = ['-u', '-b', backingFile, '-F', backingFormat];
  await qemuImg(['create', '-q', '-f', 'qcow2', ...settings, ...backing, file, String(sizeBytes)], quickMs, file);
}

/** Grows an image that nobody has open. @throws LaminaError `pool-full` */
export async function growImage(options: {
  file: string;
  format: ImageFormat;
  sizeBytes: number;
  preallocation: ImagePreallocation;
}): Promise<void> {
  const { file, format, sizeBytes, preallocation } = options;
  const how = preallocation === 'off' ? [] : [`--preallocation=${preallocation}`];
  const timeoutMs = preallocation === 'off' ? quickMs : longMs;
  await qemuImg(['resize', '-q', '-f', format, ...how, file, String(sizeBytes)], timeoutMs, file);
}

/**
 * Makes `file` independent of its present backing file: afterwards it reads the same on top of `backing`, or on
 * nothing where that is null. Runs at the lowest priority.
 */
export async function rebaseImage(options: {
  file: string;
  backing: { file: string; format: ImageFormat } | null;
  signal: AbortSignal;
}): Promise<void> {
  const { file, backing, signal } = options;
  const target = backing === null ? ['-b', ''] : ['-b', backing.file, '-F', backing.format];
  // Through the page cache: the copy is read back at once by the check, and fsynced by the caller.
  await qemuImg(['rebase', '-q', '-f', 'qcow2', ...target, file], longMs, file, { background: true, signal });
}

const checkSchema = z.object({
  'check-errors': z.int(),
  corruptions: z.int().optional(),
  leaks: z.int().optional(),
});

export interface ImageCheck {
  /** `in-use`: a daemon writes to it, so its metadata on disk says nothing. */
  result: 'clean' | 'leaks' | 'corrupt' | 'in-use';
  corruptions: number;
  leaks: number;
}

/** `qemu-img check`; `repairLeaks` gives lost clusters back and touches nothing else. */
export async function checkImage(file: string, options: { repairLeaks?: boolean } = {}): Promise<ImageCheck> {
  const args = ['check', '-f', 'qcow2', '--output=json', ...(options.repairLeaks ? ['-r', 'leaks'] : []), file];
  let stdout: string;
  try {
    // 2: corruptions, 3: leaks. 0 after a repair.
    ({ stdout } = await run('qemu-img', args, { timeoutMs: longMs, okExitCodes: [2, 3] }));
  } catch (error) {
    if (isLockFailure(error)) return { result: 'in-use', corruptions: 0, leaks: 0 };
    throw error;
  }
  const report = checkSchema.safeParse(JSON.parse(stdout));
  if (!report.success) throw new LaminaError('tool-failed', `qemu-img check ${file}: unexpected answer ${stdout}`);
  const { corruptions = 0, leaks = 0 } = report.data;
  const broken = corruptions > 0 || report.data['check-errors'] > 0;
  return { result: broken ? 'corrupt' : leaks > 0 ? 'leaks' : 'clean', corruptions, leaks };
}

/** Whether another process has the image open for writing, as far as QEMU's own locks tell. */
export async function isImageInUse(file: string, format: ImageFormat): Promise<boolean> {
  if (!(await mayBeLocked(file))) return false;
  try {
    await run('qemu-img', ['info', '-f', format, file], { timeoutMs: quickMs });
    return false;
  } catch (error) {
    if (isLockFailure(error)) return true;
    throw error;
  }
}

/**
 * Whether some process, of whatever container, holds a lock on a file with this inode number. Not by the device: what the
 * kernel lists for a file on btrfs is not what stat(2) says.
 */
async function mayBeLocked(file: string): Promise<boolean> {
  const [{ ino }, locks] = await Promise.all([stat(file, { bigint: true }), readFile('/proc/locks', 'utf8')]);
  return new RegExp(`:${ino} [0-9]+ `).test(locks);
}

function isLockFailure(error: unknown): boolean {
  return toolFailure(error)?.stderr.includes('Failed to get') ?? false;
}

async function qemuImg(
  args: string[],
  timeoutMs: number,
  file: string,
  options: Pick<RunOptions, 'background' | 'signal'> = {},
): Promise<void> {
  try {
    await run('qemu-img', args, { timeoutMs, ...options });
  } catch (error) {
    if (toolFailure(error)?.stderr.includes('No space left on device')) {
      throw new LaminaError('pool-full', `${file}: no space left on the pool's file system`, { cause: error });
    }
    throw error;
  }
}
