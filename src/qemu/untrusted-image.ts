import { read as readFile } from 'node:fs';
import * as z from 'zod';
import { GiB, MiB } from '../lib/bytes.ts';
import { LaminaError } from '../lib/errors.ts';
import { type Confinement, limitReached } from '../lib/confinement.ts';
import { run, type ToolFailure, toolFailure } from '../lib/exec.ts';

/** qemu-img on images that somebody else has made: without privileges and network, and with limits. */

/** A user that no account has and that owns nothing but the file that is written. */
export const untrustedUserId = 64738;
const infoMs = 60_000;
const longMs = 6 * 3600_000;
/** Slower than this is no disk of ours, nor QEMU at work on an honest image. */
const leastBytesPerCpuSecond = 16 * MiB;
const leastCpuSeconds = 30;
/** Of a QCOW2 image beyond its data: less than this, for the smallest clusters that are written. */
const metadataFraction = 0.02;
const input = '/proc/self/fd/3';
const output = '/proc/self/fd/4';

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
  /** What it has opened, from QEMU 8 on. */
  children: z
    .array(z.object({ name: z.string(), info: z.object({ children: z.array(z.unknown()).max(0).optional() }) }))
    .optional(),
});

/** Whether QEMU reads of the image what we did. @throws LaminaError `image-refused` */
export async function assertSameInfo(image: UntrustedImage): Promise<void> {
  const stdout = await confinedQemuImg(image, ['info', '-f', image.format, '--output=json', input], infoMs);
  const info = infoSchema.safeParse(JSON.parse(stdout)).data;
  const same = info?.format === image.format && info['virtual-size'] === image.sizeBytes;
  const alone = info?.children === undefined || (info.children.length === 1 && info.children[0]?.name === 'file');
  if (same && alone && info['backing-filename'] === undefined && info.encrypted !== true) return;
  throw new LaminaError('image-refused', `${image.name}: QEMU reads another header of it than we do: ${stdout}`);
}

const checkSchema = z.object({
  'check-errors': z.int(),
  corruptions: z.int().default(0),
  leaks: z.int().default(0),
});

/** @returns whether clusters are lost, which harms nobody. @throws LaminaError `image-refused` where it is damaged */
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
    throw await verdictOn(image, failure, error as Error);
  }
}

/** What came of the image is final; what came of this machine is not. */
async function verdictOn(image: UntrustedImage, failure: ToolFailure, cause: Error): Promise<LaminaError> {
  const { name } = image;
  const limit = limitReached(failure);
  if (limit !== undefined) return new LaminaError('image-refused', `${name} ${limit}: ${cause.message}`, { cause });
  if (!(await isVerdict(image, failure))) return new LaminaError('import-failed', cause.message, { cause });
  return new LaminaError('image-refused', `${name}: QEMU cannot read it: ${failure.stderr.trim()}`, { cause });
}

/** Of qemu-img itself and on the image: whatever confines it ends with 1, too, and a disk of ours may fail. */
async function isVerdict({ descriptor }: UntrustedImage, { exitCode, stderr }: ToolFailure): Promise<boolean> {
  // A driver may say more before it.
  if (exitCode !== 1 || !/^qemu-img: /m.test(stderr)) return false;
  if (/Permission denied|Operation not permitted|error while writing/.test(stderr)) return false;
  // QEMU says the same of a bad disk and of compressed clusters that are no such thing.
  return !stderr.includes('Input/output error') || readsWhole(descriptor);
}

async function readsWhole(descriptor: number): Promise<boolean> {
  const buffer = Buffer.alloc(MiB);
  try {
    for (let at = 0, bytes = -1; bytes !== 0; at += bytes) bytes = await readAt(descriptor, buffer, at);
    return true;
  } catch {
    return false;
  }
}

function readAt(descriptor: number, buffer: Buffer, position: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  readFile(descriptor, buffer, 0, buffer.length, position, (error, bytes) => (error ? reject(error) : resolve(bytes)));
  return promise;
}
