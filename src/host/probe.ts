import { type FileHandle, open } from 'node:fs/promises';
import { MiB } from '../lib/bytes.ts';
import { run } from '../lib/exec.ts';

const timeoutMs = 30_000;

const nothingFound = 2;
const ambivalent = 8;

/**
 * What is on a device. `other` is anything that must not be touched; `what` names it for people. `unread`: so much was
 * written to it, with nothing found yet, that it cannot be told in time.
 */
export type Content =
  | { kind: 'blank' }
  | { kind: 'filesystem'; type: string }
  | { kind: 'other'; what: string }
  | { kind: 'unread' };

/** The parts of a device that may hold anything but zeroes, in bytes. */
export type Written = (signal: AbortSignal) => AsyncIterable<{ start: number; length: number }>;

/** Looks at the device itself (low-level probing), never at what udev or a cache remembers. */
export async function probeContent(device: string, written: Written): Promise<Content> {
  const { stdout, exitCode } = await run('blkid', ['--probe', '--output', 'export', '--', device], {
    timeoutMs,
    okExitCodes: [nothingFound, ambivalent],
  });
  if (exitCode === ambivalent) return { kind: 'other', what: 'signatures of several formats' };
  if (exitCode === nothingFound) return probeUnknown(device, written);
  const found = parseExport(stdout);
  const table = found.get('PTTYPE');
  if (table !== undefined) return { kind: 'other', what: `a ${table} partition table` };
  const type = found.get('TYPE');
  if (type !== undefined && found.get('USAGE') === 'filesystem') return { kind: 'filesystem', type };
  return { kind: 'other', what: type ?? 'data of an unknown kind' };
}

/** @param text `NAME=value` lines */
function parseExport(text: string): Map<string, string> {
  return new Map(
    text.split('\n').map((line) => {
      const equals = line.indexOf('=');
      return [line.slice(0, equals), line.slice(equals + 1)];
    }),
  );
}

const readTimeoutMs = 60_000;
const pieceBytes = MiB;
const zeroes = Buffer.alloc(pieceBytes);

/**
 * What no tool knows can still be somebody's data, so all is read that was ever written: of a new disk, next to nothing.
 * The kernel writes out first what it holds of the device, for those who look at the files below it.
 */
async function probeUnknown(device: string, written: Written): Promise<Content> {
  const signal = AbortSignal.timeout(readTimeoutMs);
  const handle = await open(device, 'r');
  try {
    await handle.sync();
    for await (const { start, length } of written(signal)) {
      const end = start + length;
      for (let offset = start; offset < end; offset += pieceBytes) {
        if (signal.aborted) return { kind: 'unread' };
        if (!(await isZero(handle, offset, Math.min(pieceBytes, end - offset)))) {
          return { kind: 'other', what: 'data of an unknown kind' };
        }
      }
    }
  } catch (error) {
    if (signal.aborted) return { kind: 'unread' };
    throw error;
  } finally {
    await handle.close();
  }
  return { kind: 'blank' };
}

async function isZero(handle: FileHandle, offset: number, length: number): Promise<boolean> {
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, offset);
  return buffer.subarray(0, bytesRead).equals(zeroes.subarray(0, bytesRead));
}
