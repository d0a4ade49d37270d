import * as z from 'zod';
import { GiB, MiB } from '../lib/bytes.ts';
import { LaminaError } from '../lib/errors.ts';
import { type Confinement, run, toolFailure } from '../lib/exec.ts';

/** qemu-img on images that somebody else has made: without privileges and network, and with limits. */

/** A user that no account has and that owns nothing but the file that is written. */
export const untrustedUserId = 64738;
const infoMs = 60_000;
/** Reading a header takes the least of everything. */
const infoBytes = 0;
const longMs = 6 * 3600_000;
/** Slower than this is no disk of ours, nor QEMU at work on an honest image. */
const leastBytesPerCpuSecond = 16 * MiB;
const leastCpuSeconds = 30;
/** Of a QCOW2 image beyond its data: less than this, for the smallest clusters that are written. */
const metadataFraction = 0.02;
const input = '/proc/self/fd/3';
const output = '/proc/self/fd/4';

/** What QEMU is told to read; it never guesses. */
export type UntrustedFormat = 'qcow2' | 'raw' | 'vmdk' | 'vdi' | 'vhdx';

export interface UntrustedImage {
  /** Of the file, readable by everybody. */
  descriptor: number;
  format: UntrustedFormat;
  /** Virtual, as our own parser has it. */
  sizeBytes: number;
  /** For messages. */
  name: string;
  signal: AbortSignal;
}

const infoSchema = z.object({
  format: z.string(),
  'virtual-size': z.int().nonnegative(),
  'backing-filename': z.string().optional(),
  encrypted: z.boolean().optional(),
});

/** Whether QEMU reads of the image what we did. @throws LaminaError `image-refused` */
export async function assertSameInfo(image: UntrustedImage): Promise<void> {
  const sizeBytes = await readInfo(image);
  if (sizeBytes === image.sizeBytes) return;
  throw new LaminaError(
    'image-refused',
    `${image.name}: QEMU reads a size of ${sizeBytes} bytes in its header, and we ${image.sizeBytes}`,
  );
}

/**
 * What QEMU says how big an image is; it opens no other file for that.
 *
 * @throws LaminaError `image-refused` where it is of another format, or has a backing file or a key
 */
export async function readInfo(image: Omit<UntrustedImage, 'sizeBytes'>): Promise<number> {
  const sizeBytes = infoBytes;
  const stdout = await confinedQemuImg(
    { ...image, sizeBytes },
    ['info', '-f', image.format, '--output=json', input],
    infoMs,
  );
  const info = infoSchema.safeParse(JSON.parse(stdout)).data;
  const isPlain = info?.['backing-filename'] === undefined && info?.encrypted !== true;
  if (info?.format === image.format && isPlain) return info['virtual-size'];
  throw new LaminaError('image-refused', `${image.name}: QEMU reads another header of it than we do: ${stdout}`);
}

const checkSchema = z.object({
  'check-errors': z.int(),
  corruptions: z.int().default(0),
  leaks: z.int().default(0),
});

/** @returns whether clusters of a qcow2 are lost, which harms nobody. @throws LaminaError `image-refused` where it is damaged */
export async function assertUndamaged(image: UntrustedImage): Promise<{ leaks: boolean }> {
  const stdout = await confinedQemuImg(image, ['check', '-f', image.format, '--output=json', input], longMs);
  const report = checkSchema.safeParse(JSON.parse(stdout)).data;
  if (report?.corruptions === 0 && report['check-errors'] === 0) return { leaks: report.leaks > 0 };
  throw new LaminaError(
    'image-refused',
    `${image.name} is damaged, as qemu-img check says: repair it, and import that`,
  );
}

/** Writes what a guest would read to a blank image, at least as big, that belongs to untrustedUserId; zeroes are not stored. */
export async function convertUntrusted(
  image: UntrustedImage,
  target: { descriptor: number; format: 'qcow2' | 'raw' },
): Promise<void> {
  const args = ['convert', '-n', '--target-is-zero', '-f', image.format, '-O', target.format, input, output];
  await confinedQemuImg(image, args, longMs, target.descriptor);
}

async function confinedQemuImg(
  image: UntrustedImage,
  args: string[],
  timeoutMs: number,
  target?: number,
): Promise<string> {
  const confined: Confinement = {
    userId: untrustedUserId,
    cpuSeconds: leastCpuSeconds + Math.ceil(image.sizeBytes / leastBytesPerCpuSecond),
    addressSpaceBytes: 2 * GiB,
    fileBytes: target === undefined ? 0 : Math.ceil(image.sizeBytes * (1 + metadataFraction)) + 64 * MiB,
    descriptors: target === undefined ? [image.descriptor] : [image.descriptor, target],
  };
  try {
    const options = { timeoutMs, confined, background: true, signal: image.signal, okExitCodes: [2, 3] };
    return (await run('qemu-img', args, options)).stdout;
  } catch (error) {
    image.signal.throwIfAborted();
    const failure = toolFailure(error);
    if (!failure) throw error;
    if (failure.stderr.includes('No space left on device')) {
      throw new LaminaError('pool-full', `${image.name}: the pool became full`, { cause: error });
    }
    const refusal = new LaminaError('image-refused', `${image.name}: QEMU cannot read it: ${failure.stderr.trim()}`, {
      cause: error,
    });
    if (hasHitLimit(failure, error)) {
      throw new LaminaError(
        'image-refused',
        `${image.name}: QEMU took more time, memory or space for it than any honest image of its size takes`,
        { cause: error },
      );
    }
    throw isVerdict(failure) ? refusal : new LaminaError('import-failed', (error as Error).message, { cause: error });
  }
}

/** The kernel's words for the limits of time and of what is written; memory that is not given fails in QEMU's. */
function hasHitLimit({ exitCode, stderr }: { exitCode: number | undefined; stderr: string }, error: unknown): boolean {
  const { message } = error as Error;
  const isKilled = exitCode === undefined && /SIGXCPU|SIGXFSZ|SIGKILL/.test(message);
  return isKilled || exitCode === 152 || exitCode === 153 || /File too large|failed to allocate/i.test(stderr);
}

/** Of qemu-img itself and on the image: whatever confines it ends with 1, too, and a disk of ours may fail. */
function isVerdict({ exitCode, stderr }: { exitCode: number | undefined; stderr: string }): boolean {
  const isOurs = /Input\/output error|Cannot allocate memory|Permission denied|Operation not permitted/.test(stderr);
  return exitCode === 1 && stderr.startsWith('qemu-img: ') && !isOurs;
}
