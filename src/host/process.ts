import { readdir, readFile } from 'node:fs/promises';
import { errnoOf } from '../lib/errors.ts';

/** A process for certain: ids are used again, an id with its start time is not. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks since boot, field 22 of /proc/<pid>/stat. */
  startTime: number;
}

/** Of this start of the machine: no other has it. */
export async function currentBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/**
 * Identity of the living process `pid`, or null where there is none or only a zombie. A zombie whose other threads have not
 * ended is alive: they still write, and hold its files and their locks.
 */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | null> {
  const stat = await readProc(`/proc/${pid}/stat`);
  return stat === null ? null : identityIn(stat);
}

/** The same, of what /proc/<pid>/stat says. */
export function identityIn(stat: string): ProcessIdentity | null {
  // The name, in parentheses, may hold anything; fields are counted from behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  const hasThreads = Number(fields[17]) > 1;
  if ((state === 'Z' || state === 'X') && !hasThreads) return null;
  return { pid: Number.parseInt(stat, 10), startTime: Number(fields[19]) };
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await identifyProcess(identity.pid);
  return now?.startTime === identity.startTime;
}

/** The living process that was started with `argument` among its arguments, or null. */
export async function findProcessByArgument(argument: string): Promise<ProcessIdentity | null> {
  const pids = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name));
  for (const pid of pids) {
    const text = await readProc(`/proc/${pid}/cmdline`);
    if (text?.split('\0').includes(argument)) {
      const identity = await identifyProcess(Number(pid));
      if (identity) return identity;
    }
  }
  return null;
}

/** Sends `signal` to the process if it still is the one meant. */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  if (!(await isAlive(identity))) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

async function readProc(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    // ESRCH: the process ended between open and read.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return null;
    throw error;
  }
}
