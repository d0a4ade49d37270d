import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { formatBytes, MiB } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { commitBytes } from '../layers/incoming-layer.ts';
import { writeParts } from '../layers/written-parts.ts';
import { decompress } from './decompress.ts';
import { type ImportContext, type ImportRequest, sourceName } from './import-request.ts';
import { compressionOf, type Compression, probeBytes } from './probe-format.ts';

const writeBytes = MiB;
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
    const compression = await readCompression(source);
    if (compression === null) return file;
    const limitBytes = await mostUnpackedBytes(context, request);
    const packed = { source, compression, limitBytes, name: sourceName(request.source), signal: request.signal };
    return await writeUnpacked(context, request, decompress(packed), file);
  } finally {
    await source.close();
  }
}

export async function readCompression(source: FileHandle): Promise<Compression | null> {
  const { buffer, bytesRead } = await source.read(Buffer.alloc(probeBytes), 0, probeBytes, 0);
  return compressionOf(buffer.subarray(0, bytesRead));
}

/**
 * Writes what comes out of `file` to one beside it; zeroes are not stored.
 * @returns its path
 * @throws LaminaError `image-refused` where that is nothing, or more than may be; `pool-full`
 */
export async function writeUnpacked(
  context: ImportContext,
  request: ImportRequest,
  pieces: AsyncIterable<Buffer>,
  file: string,
): Promise<string> {
  const limitBytes = await mostUnpackedBytes(context, request);
  const target = path.join(path.dirname(file), 'unpacked');
  const output = await open(target, 'w', 0o600);
  try {
    await writeBlocks(context, request, { pieces, output, limitBytes });
    await output.sync();
  } finally {
    await output.close();
  }
  return target;
}

/** What is asked for, in the wordiest of formats; the size of the pool where nobody said. */
export async function mostUnpackedBytes({ space }: ImportContext, { sizeBytes }: ImportRequest): Promise<number> {
  if (sizeBytes === null) return (await space.space()).totalBytes;
  return Math.ceil(sizeBytes * (1 + overheadFraction)) + overheadBytes;
}

async function writeBlocks(
  { space, checkpoint }: ImportContext,
  request: ImportRequest,
  { pieces, output, limitBytes }: { pieces: AsyncIterable<Buffer>; output: FileHandle; limitBytes: number },
): Promise<void> {
  let [at, checkedAt] = [0, 0];
  await space.assertRoom(commitBytes);
  for await (const block of blocksOf(pieces)) {
    request.signal.throwIfAborted();
    if (at + block.length > limitBytes) throw tooMuch(request, limitBytes);
    await writeParts(output, block, at);
    at += block.length;
    request.onProgress?.({ stage: 'unpacking', doneBytes: at, totalBytes: null });
    if (at - checkedAt < commitBytes) continue;
    checkpoint('import-image/unpack-progressed');
    await space.assertRoom(commitBytes);
    checkedAt = at;
  }
  if (at === 0) throw new LaminaError('image-refused', `${sourceName(request.source)} is empty inside`);
  await output.truncate(at);
}

function tooMuch({ source, sizeBytes }: ImportRequest, limitBytes: number): LaminaError {
  const why =
    sizeBytes === null
      ? `as many as its pool has: name the size of the disk, if it is so big`
      : `which is more than a disk of ${sizeBytes} bytes takes: ask for the size that it has`;
  return new LaminaError(
    'image-refused',
    `${sourceName(source)} unpacks to more than ${formatBytes(limitBytes)}, ${why}`,
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
