import { open } from 'node:fs/promises';
import { KiB, MiB } from '../lib/bytes.ts';
import { run } from '../lib/exec.ts';
import { blockDeviceSizeBytes } from './block-device.ts';

const timeoutMs = 30_000;

const nothingFound = 2;
const ambivalent = 8;

/** What is on a device. `other` is anything that must not be touched; `what` names it for people. */
export type Content = { kind: 'blank' } | { kind: 'filesystem'; type: string } | { kind: 'other'; what: string };

/** Looks at the device itself (low-level probing), never at what udev or a cache remembers. */
export async function probeContent(device: string): Promise<Content> {
  const { stdout, exitCode } = await run('blkid', ['--probe', '--output', 'export', '--', device], {
    timeoutMs,
    okExitCodes: [nothingFound, ambivalent],
  });
  if (exitCode === ambivalent) return { kind: 'other', what: 'signatures of several formats' };
  if (exitCode === nothingFound) return probeUnknown(device);
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

const edgeBytes = MiB;
const sampleBytes = 4 * KiB;
const sampleCount = 64;

/**
 * What no tool knows can still be somebody's data. Start, end and samples between them tell it from a disk that was
 * never written, where reading all of it would take minutes.
 */
async function probeUnknown(device: string): Promise<Content> {
  const sizeBytes = await blockDeviceSizeBytes(device);
  const handle = await open(device, 'r');
  try {
    const isZero = async (offset: number, length: number) => {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, offset);
      return buffer.subarray(0, bytesRead).every((byte) => byte === 0);
    };
    const ends = [0, Math.max(0, sizeBytes - edgeBytes)];
    for (const offset of ends) if (!(await isZero(offset, edgeBytes))) return unknownData;
    for (let sample = 1; sample <= sampleCount; sample++) {
      const offset = Math.floor((sizeBytes * sample) / (sampleCount + 1) / sampleBytes) * sampleBytes;
      if (!(await isZero(offset, sampleBytes))) return unknownData;
    }
  } finally {
    await handle.close();
  }
  return { kind: 'blank' };
}

const unknownData: Content = { kind: 'other', what: 'data of an unknown kind' };
