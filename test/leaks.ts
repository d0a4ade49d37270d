import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { pollUntil } from '../src/lib/poll.ts';
import { processesNaming } from './standalone.ts';
import { killIfThere } from './workspace.ts';

/**
 * What of ours still exists on this machine below `directory`: processes that name it, mounts in it, loop devices on
 * files of it. Empty after everything was detached and stopped.
 */
export async function leaksBelow(directory: string): Promise<string[]> {
  const processes = (await processesNaming(directory)).map(({ pid, command }) => `process ${pid}: ${command}`);
  return [...processes, ...mountsBelow(directory), ...loopsBelow(directory)];
}

/**
 * As leaksBelow, after the plugins below `directory` were stopped: ends their supervisors, which would end by themselves
 * when idle for seconds, and tells of daemons that these still knew, with which they would not.
 */
export async function leaksOfStopped(directory: string): Promise<string[]> {
  const daemons: string[] = [];
  for (const { pid, command } of await processesNaming(directory)) {
    const runDir = / --run-dir (\S+) --idle-exit-seconds /.exec(command)?.[1];
    if (runDir === undefined) continue;
    const known = path.join(runDir, 'daemons');
    daemons.push(...readdirSync(known).map((id) => `daemon ${path.join(known, id)}`));
    killIfThere(pid, 'SIGTERM');
  }
  await pollUntil(async () => (await leaksBelow(directory)).length === 0, { timeoutMs: 20_000, intervalMs: 50 });
  return [...daemons, ...(await leaksBelow(directory))];
}

export function mountsBelow(directory: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.filter((line) => line.split(' ')[4]?.startsWith(`${directory}/`)).map((line) => `mount ${line}`);
}

export function loopsBelow(directory: string): string[] {
  const json = execFileSync('losetup', ['--list', '--json', '-O', 'NAME,BACK-FILE'], { encoding: 'utf8' });
  if (json.trim() === '') return [];
  // One that is taken away while it is listed, as by a test that runs beside, has no file any more.
  const { loopdevices } = JSON.parse(json) as { loopdevices: { name: string; 'back-file': string | null }[] };
  return loopdevices
    .filter((loop) => loop['back-file']?.startsWith(`${directory}/`))
    .map((loop) => `${loop.name} on ${loop['back-file']}`);
}

/** Clears away what a failed test left below `directory`, so that the next one starts from nothing. */
export async function clearBelow(directory: string): Promise<void> {
  // What goes by itself meanwhile is no failure here: `spawnSync` does not throw.
  for (const line of mountsBelow(directory).toReversed()) {
    if (!line.includes(' - fuse')) spawnSync('umount', ['-l', line.split(' ')[5] ?? '']);
  }
  // Before their daemons: a loop device on a dead export has lost its name.
  for (const line of loopsBelow(directory)) spawnSync('losetup', ['-d', line.split(' ')[0] ?? '']);
  for (const { pid } of await processesNaming(directory)) spawnSync('kill', ['-KILL', String(pid)]);
  for (const line of mountsBelow(directory).toReversed()) spawnSync('umount', ['-l', line.split(' ')[5] ?? '']);
  if (existsSync(directory)) execFileSync('rm', ['-rf', '--one-file-system', directory]);
}
