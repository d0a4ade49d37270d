import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { formatBytes, GiB, MiB } from '../../lib/bytes.ts';
import { type Confinement, limitReached } from '../../lib/confinement.ts';
import { LaminaError } from '../../lib/errors.ts';
import { runFilter, toolFailure } from '../../lib/exec.ts';
import { untrustedUserId } from '../../qemu/untrusted-image.ts';
import { commitBytes } from '../incoming-layer.ts';
import { writeParts } from '../written-parts.ts';
import type { ImportContext, ImportRequest } from './import-request.ts';
import { compressionOf, type Compression, probeBytes } from './probe-format.ts';

/** Each reads all members or frames of a file, one after the other; Node's own zstd stops after the first. */
const commands: Record<Compression, [string, ...string[]]> = {
  gzip: ['gzip', '-dc'],
  // With more threads it takes as much memory as the machine has.
  xz: ['xz', '-dc', '-T1'],
  zstd: ['zstd', '-dcq'],
};

const writeBytes = MiB;
const longMs = 6 * 3600_000;
/** Slower than this is no such program at work on an honest file. */
const leastBytesPerCpuSecond = 8 * MiB;
const leastCpuSeconds = 30;
/** Of a qcow2 image beyond its data, of vmdk and others too. */
const overheadFraction = 0.02;
const overheadBytes = 64 * MiB;

/**
 * Unpacks a file that came compressed to one beside it, which is written anew each time; zeroes are not stored.
 * What is inside may be compressed itself, which is left to the caller.
 *
 * @returns the path of what is inside; `file` where that is not compressed
 * @throws LaminaError `image-refused` where it is damaged, cut off, or has more in it than may be; `pool-full`; `import-failed`
 */
export async function unpack(context: ImportContext, request: ImportRequest, file: string): Promise<string> {
  const source = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await source.read(Buffer.alloc(probeBytes), 0, probeBytes, 0);
    const compression = compressionOf(buffer.subarray(0, bytesRead));
    if (compression === null) return file;
    const limitBytes = await mostUnpackedBytes(context, request);
    const target = path.join(path.dirname(file), 'unpacked');
    const output = await open(target, 'w', 0o600);
    try {
      await unpackTo(context, request, { source, compression, output, limitBytes });
      await output.sync();
    } finally {
      await output.close();
    }
    return target;
  } finally {
    await source.close();
  }
}

/** What is asked for, in the wordiest of formats; the size of the pool where nobody said. */
async function mostUnpackedBytes({ space }: ImportContext, { sizeBytes }: ImportRequest): Promise<number> {
  if (sizeBytes === null) return (await space.space()).totalBytes;
  return Math.ceil(sizeBytes * (1 + overheadFraction)) + overheadBytes;
}

interface Unpacking {
  source: FileHandle;
  compression: Compression;
  output: FileHandle;
  limitBytes: number;
}

async function unpackTo(
  { space, checkpoint }: ImportContext,
  request: ImportRequest,
  { source, compression, output, limitBytes }: Unpacking,
): Promise<void> {
  const { url: name } = request.source;
  let [at, checkedAt] = [0, 0];
  await space.assertRoom(commitBytes);
  for await (const block of unpacked(source, compression, limitBytes, request)) {
    if (at + block.length > limitBytes) throw tooMuch(request, limitBytes);
    await writeParts(output, block, at);
    at += block.length;
    request.onProgress?.({ stage: 'unpacking', doneBytes: at, totalBytes: null });
    if (at - checkedAt < commitBytes) continue;
    checkpoint('import-image/unpack-progressed');
    await space.assertRoom(commitBytes);
    checkedAt = at;
  }
  if (at === 0) throw new LaminaError('image-refused', `${name} is compressed with ${compression}, and empty inside`);
  await output.truncate(at);
}

function tooMuch({ source: { url }, sizeBytes }: ImportRequest, limitBytes: number): LaminaError {
  const why =
    sizeBytes === null
      ? `as many as its pool has: name the size of the disk, if it is so big`
      : `which is more than a disk of ${sizeBytes} bytes takes: ask for the size that it has`;
  return new LaminaError('image-refused', `${url} unpacks to more than ${formatBytes(limitBytes)}, ${why}`);
}

/** What comes out, in pieces that are worth a write each. */
async function* unpacked(
  source: FileHandle,
  compression: Compression,
  limitBytes: number,
  { source: { url: name }, signal }: ImportRequest,
): AsyncGenerator<Buffer> {
  const [command, ...args] = commands[compression];
  const { size } = await source.stat();
  const confined: Confinement = {
    userId: untrustedUserId,
    cpuSeconds: leastCpuSeconds + Math.ceil((size + limitBytes) / leastBytesPerCpuSecond),
    addressSpaceBytes: GiB,
    fileBytes: 0,
    descriptors: [],
  };
  const pieces = runFilter(command, args, { input: source.fd, timeoutMs: longMs, background: true, confined, signal });
  try {
    yield* blocksOf(pieces);
  } catch (error) {
    throw verdict(error, `${name} is compressed with ${compression} and`);
  }
}

/** What came of the file is final; what came of this machine is not. */
function verdict(error: unknown, subject: string): unknown {
  const failure = toolFailure(error);
  if (!failure) return error;
  const cause = error as Error;
  const limit = limitReached(failure);
  if (limit !== undefined) return new LaminaError('image-refused', `${subject} ${limit}: ${cause.message}`, { cause });
  const ofItself = failure.exitCode !== undefined && !failure.stderr.includes('Input/output error');
  if (!ofItself) return new LaminaError('import-failed', cause.message, { cause });
  return new LaminaError(
    'image-refused',
    `${subject} cannot be unpacked to its end: ${failure.stderr.trim()}: compare it with what was published`,
    { cause },
  );
}

/** The same bytes in blocks of `writeBytes`, but for the last. */
async function* blocksOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    bytes += piece.length;
    if (bytes < writeBytes) continue;
    const all = Buffer.concat(waiting, bytes);
    const whole = bytes - (bytes % writeBytes);
    yield all.subarray(0, whole);
    bytes -= whole;
    waiting = bytes > 0 ? [all.subarray(whole)] : [];
  }
  if (bytes > 0) yield Buffer.concat(waiting, bytes);
}
