import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pollUntil } from '../src/lib/poll.ts';
import { CsiClient } from './csi-client.ts';

export interface StandaloneOptions {
  pool: string;
  socket: string;
  runDir: string;
  /** Further arguments of `lamina standalone`. */
  args?: readonly string[];
  /** Added to the environment, such as LAMINA_KILL_AT. */
  env?: Record<string, string>;
  /** How long until Probe must answer ready; default one minute. */
  readyTimeoutMs?: number;
  /** Replaces `bin/lamina`: a program with its first arguments, such as `docker run … lamina`. */
  command?: readonly [string, ...string[]];
}

/** A running `lamina standalone`. */
export interface Standalone {
  client: CsiClient;
  process: ChildProcess;
  /** What it wrote to standard error until now. */
  stderr(): string;
  /** Resolves with exit code or signal when it has ended. */
  ended: Promise<number | NodeJS.Signals>;
  /** Ends it by SIGTERM; disks stay attached. @throws where it does not end, or not with 0 */
  stop(): Promise<void>;
  /** Ends it by SIGKILL. */
  kill9(): Promise<void>;
}

const laminaPath = path.resolve(import.meta.dirname, '../bin/lamina');

/** Starts `lamina standalone` and waits until Probe says that it is ready. @throws with its standard error where it ends instead */
export async function startStandalone(options: StandaloneOptions): Promise<Standalone> {
  const standalone = spawnStandalone(options);
  const { readyTimeoutMs = 60_000 } = options;
  const { process: child, client } = standalone;
  const end = () => child.exitCode ?? child.signalCode;
  const ready = await pollUntil(async () => end() !== null || (await client.isReady()), {
    timeoutMs: readyTimeoutMs,
    intervalMs: 20,
  });
  if (ready && end() === null) return standalone;
  const what = end() === null ? `is not ready after ${readyTimeoutMs} ms` : `ended with ${end()} before it was ready`;
  await standalone.kill9();
  throw new Error(`lamina standalone ${what}:\n${standalone.stderr()}`);
}

/** As `startStandalone`, without waiting: for one that is expected to end before it is ready. */
export function spawnStandalone({
  pool,
  socket,
  runDir,
  args = [],
  env = {},
  command = [laminaPath],
}: StandaloneOptions): Standalone {
  const [file, ...first] = command;
  const own = ['standalone', '--pool', pool, '--socket', socket, '--run-dir', runDir, ...args];
  const child = spawn(file, [...first, ...own], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = endOf(child);
  // Whoever waits for the end is told why it never began; until then it is nobody's.
  ended.catch(() => {});
  const client = new CsiClient(socket);
  const end = async (signal: NodeJS.Signals): Promise<number | NodeJS.Signals> => {
    child.kill(signal);
    const how = await ended;
    client.close();
    return how;
  };
  const stop = async (): Promise<void> => {
    const late = setTimeout(() => child.kill('SIGKILL'), 30_000);
    const how = await end('SIGTERM');
    clearTimeout(late);
    if (how !== 0) throw new Error(`lamina standalone ended with ${how} when it was told to stop:\n${stderr}`);
  };
  const kill9 = async (): Promise<void> => {
    await end('SIGKILL');
  };
  return { client, process: child, stderr: () => stderr, ended, stop, kill9 };
}

/** Exit code or signal, once its last words are read. */
async function endOf(child: ChildProcess): Promise<number | NodeJS.Signals> {
  const silent = child.stderr && once(child.stderr, 'end');
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  // A detached grandchild that holds the pipe would keep it open for ever.
  await Promise.race([silent, delay(500)]);
  return code ?? signal ?? 1;
}

/** Processes that name `directory` on their command line: plugin, supervisor and daemons of a run directory. */
export async function processesNaming(directory: string): Promise<{ pid: number; command: string }[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => Number.isInteger(pid) && pid !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      // A process that ends meanwhile is none.
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      return { pid, command: command.replaceAll('\0', ' ').trim() };
    }),
  );
  return found.filter(({ command }) =>
    command.split(/[\s=,:]/).some((word) => word === directory || word.startsWith(`${directory}/`)),
  );
}
