import { open } from 'node:fs/promises';
import path from 'node:path';
import { GiB, MiB } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { run, toolFailure } from '../../lib/exec.ts';
import { untrustedUserId } from '../../qemu/untrusted-image.ts';
import { maximumSizeBytes } from '../../store/create-disk.ts';
import { whileRoom } from './build-layer.ts';
import type { ImportContext, ImportRequest } from './import-request.ts';

interface Compression {
  magic: Buffer;
  /** Reads standard input; all of it, where several streams follow each other. */
  command: readonly [string, ...string[]];
}

const compressions: readonly Compression[] = [
  { magic: Buffer.from('1f8b08', 'hex'), command: ['gzip', '-dc'] },
  { magic: Buffer.from('fd377a585a00', 'hex'), command: ['xz', '-dcq'] },
  { magic: Buffer.from('28b52ffd', 'hex'), command: ['zstd', '-dcq', '--single-thread', '--no-sparse'] },
];

const unpackMs = 6 * 3_600_000;
/** Slower than this is none of the three, on any machine. */
const leastBytesPerCpuSecond = 4 * MiB;
/** Of a disk image beyond its content, in any format. */
const overhead = 1.05;

/**
 * Unpacks what was downloaded, where its first bytes say that it is compressed, into a file beside it. The program that
 * reads it has no privileges and no network, and ends where more comes than the disk that was asked for could be.
 *
 * @returns the file with the disk image
 * @throws LaminaError `image-refused` for what is damaged, or more than that; `pool-full`
 */
export async function unpack(context: ImportContext, request: ImportRequest, file: string): Promise<string> {
  const source = await open(file, 'r');
  try {
    const { buffer } = await source.read(Buffer.alloc(8), 0, 8, 0);
    const compression = compressions.find(({ magic }) => buffer.subarray(0, magic.length).equals(magic));
    if (!compression) return file;
    const target = path.join(path.dirname(file), 'content');
    const output = await open(target, 'w', 0o600);
    try {
      const { size } = await source.stat();
      await whileRoom(context, request, { file: target, stage: 'unpacking' }, (signal) =>
        decompress(compression, { input: source.fd, output: output.fd, inputBytes: size }, request, signal),
      );
      await output.sync();
    } finally {
      await output.close();
    }
    return target;
  } finally {
    await source.close();
  }
}

async function decompress(
  { command: [program, ...args] }: Compression,
  { input, output, inputBytes }: { input: number; output: number; inputBytes: number },
  { source, sizeBytes }: ImportRequest,
  signal: AbortSignal,
): Promise<void> {
  const limitBytes = Math.ceil((sizeBytes ?? maximumSizeBytes) * overhead) + 64 * MiB;
  const confined = {
    userId: untrustedUserId,
    cpuSeconds: 60 + Math.ceil(Math.max(inputBytes * 20, limitBytes / 64) / leastBytesPerCpuSecond),
    addressSpaceBytes: 2 * GiB,
    fileBytes: limitBytes,
    descriptors: [],
    input,
    output,
  };
  try {
    await run(program, args, { timeoutMs: unpackMs, confined, background: true, signal });
  } catch (error) {
    signal.throwIfAborted();
    const failure = toolFailure(error);
    if (!failure) throw error;
    const words = `${failure.stderr} ${(error as Error).message}`;
    if (words.includes('No space left on device')) {
      throw new LaminaError('pool-full', `${source.url}: the pool became full`, { cause: error });
    }
    if (/SIGXFSZ|SIGXCPU|File too large/.test(words) || [152, 153].includes(failure.exitCode ?? 0)) {
      throw new LaminaError(
        'image-refused',
        `${source.url} unpacks to more than ${limitBytes} bytes, or takes longer than anything honest: ask for a bigger disk, if it is one`,
        { cause: error },
      );
    }
    throw new LaminaError('image-refused', `${source.url} cannot be unpacked: ${failure.stderr.trim()}`, {
      cause: error,
    });
  }
}
