import type { FileHandle } from 'node:fs/promises';
import { GiB, MiB } from '../../lib/bytes.ts';
import { type Confinement, limitReached } from '../../lib/confinement.ts';
import { LaminaError } from '../../lib/errors.ts';
import { runFilter, toolFailure } from '../../lib/exec.ts';
import { untrustedUserId } from '../../qemu/untrusted-image.ts';
import type { Compression } from './probe-format.ts';

/** Each reads all members or frames of a file, one after the other; Node's own zstd stops after the first. */
const commands: Record<Compression, [string, ...string[]]> = {
  gzip: ['gzip', '-dc'],
  // With more threads it takes as much memory as the machine has.
  xz: ['xz', '-dc', '-T1'],
  zstd: ['zstd', '-dcq'],
};

const longMs = 6 * 3600_000;
/** Slower than this is no such program at work on an honest file. */
const leastBytesPerCpuSecond = 8 * MiB;
const leastCpuSeconds = 30;

export interface Packed {
  /** Read from its start. */
  source: FileHandle;
  compression: Compression;
  /** More than this is not taken, which the reader sees to. */
  limitBytes: number;
  /** For messages. */
  name: string;
  signal: AbortSignal;
}

/**
 * What is in a compressed file, in pieces, by a confined process.
 * @throws LaminaError `image-refused` where it is damaged or cut off; `import-failed`
 */
export async function* decompress({ source, compression, limitBytes, name, signal }: Packed): AsyncGenerator<Buffer> {
  const [command, ...args] = commands[compression];
  const { size } = await source.stat();
  const confined: Confinement = {
    userId: untrustedUserId,
    cpuSeconds: leastCpuSeconds + Math.ceil((size + limitBytes) / leastBytesPerCpuSecond),
    addressSpaceBytes: GiB,
    fileBytes: 0,
    descriptors: [],
  };
  try {
    yield* runFilter(command, args, { input: source.fd, timeoutMs: longMs, background: true, confined, signal });
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
