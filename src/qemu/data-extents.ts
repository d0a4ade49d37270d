import * as z from 'zod';
import { runLines } from '../lib/exec.ts';
import { LaminaError, messageOf } from '../lib/errors.ts';

/** A part of a file, in bytes. */
export interface Extent {
  start: number;
  length: number;
}

const entrySchema = z.object({ start: z.int(), length: z.int(), data: z.boolean() });

/**
 * The parts of a file that hold data, in order, from `fromBytes` on; what is left out are holes and reads as zeroes.
 * Found by lseek(SEEK_DATA), which Node does not have: qemu-img takes the file as raw, whatever it is, and looks at no
 * header. Holes shorter than `leastHoleBytes` are taken along. Not all at once, as there may be millions.
 *
 * @throws LaminaError `tool-failed`
 */
export async function* dataExtents(
  file: string,
  options: { fromBytes: number; leastHoleBytes: number; signal?: AbortSignal },
): AsyncGenerator<Extent> {
  const { fromBytes, leastHoleBytes, signal } = options;
  yield* mapped(['-f', 'raw', `--start-offset=${fromBytes}`, file], leastHoleBytes, signal);
}

/**
 * The same of a disk whose chain this is, head first; every file and driver is spelled out, so that no header is followed.
 * A daemon may have the images open, and must have written out what it holds of them.
 *
 * @throws LaminaError `tool-failed`
 */
export async function* chainDataExtents(
  chain: readonly { path: string; format: 'qcow2' | 'raw' }[],
  options: { leastHoleBytes: number; signal: AbortSignal },
): AsyncGenerator<Extent> {
  const graph = chain.reduceRight<object | null>((backing, { path, format }) => {
    const image = { driver: format, file: { driver: 'file', filename: path } };
    return format === 'raw' ? image : { ...image, backing };
  }, null);
  yield* mapped(['--force-share', `json:${JSON.stringify(graph)}`], options.leastHoleBytes, options.signal);
}

async function* mapped(args: string[], leastHoleBytes: number, signal?: AbortSignal): AsyncGenerator<Extent> {
  let current: Extent | undefined;
  for await (const line of runLines('qemu-img', ['map', '--output=json', ...args], signal)) {
    const entry = parseEntry(line);
    if (!entry?.data) continue;
    if (current && entry.start - (current.start + current.length) < leastHoleBytes) {
      current.length = entry.start + entry.length - current.start;
    } else {
      if (current) yield current;
      current = { start: entry.start, length: entry.length };
    }
  }
  if (current) yield current;
}

/** One line of the list, which qemu-img prints with an entry in each: `[{ … },`, `{ … },`, `{ … }]`. */
function parseEntry(line: string): z.infer<typeof entrySchema> | undefined {
  const text = line.replace(/^\[/, '').replace(/[,\]]$/, '');
  if (text === '') return undefined;
  try {
    return entrySchema.parse(JSON.parse(text));
  } catch (error) {
    throw new LaminaError('tool-failed', `qemu-img map: unexpected line '${line}' (${messageOf(error)})`);
  }
}
