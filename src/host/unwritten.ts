import { readFile } from 'node:fs/promises';
import { KiB } from '../lib/bytes.ts';
import { LaminaError } from '../lib/errors.ts';

const file = '/proc/meminfo';

/** What all file systems of this machine have cached and not written yet: the kernel does not tell whose it is. */
export async function unwrittenBytes(): Promise<number> {
  const text = await readFile(file, 'utf8');
  const [dirty, writeback] = ['Dirty', 'Writeback'].map((name) => {
    const found = new RegExp(`^${name}:\\s+([0-9]+) kB$`, 'm').exec(text)?.[1];
    if (found === undefined) throw new LaminaError('tool-failed', `${file} does not tell '${name}'`);
    return Number(found) * KiB;
  });
  return (dirty ?? 0) + (writeback ?? 0);
}
