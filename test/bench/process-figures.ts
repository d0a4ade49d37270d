import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { KiB } from '../../src/lib/bytes.ts';

/** In megabytes (10^6): resident now, the most it ever was, and what is not mapped from files. @throws where the process has ended */
export async function megabytes(pid: number, field: 'VmRSS' | 'VmHWM' | 'RssAnon'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
  if (kibibytes === undefined) throw new Error(`process ${pid} has ended`);
  return (Number(kibibytes) * KiB) / 1e6;
}

/** Per cent of one core that a process takes over some seconds. */
export async function cpuPercent(pid: number, seconds: number): Promise<number> {
  const before = await cpuSeconds(pid);
  const start = performance.now();
  await delay(seconds * 1000);
  return ((await cpuSeconds(pid)) - before) / ((performance.now() - start) / 1e5);
}

/** Fields 14 and 15 of proc(5) `stat`, which are counted in hundredths; the name before them may hold blanks. */
async function cpuSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
