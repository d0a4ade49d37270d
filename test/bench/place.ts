import { randomUUID } from 'node:crypto';
import { mkdtemp, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../../src/lib/exec.ts';
import { messageOf } from '../../src/lib/errors.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { type Standalone, startStandalone } from '../standalone.ts';
import type { Workspace } from '../workspace.ts';
import type { BenchOptions } from './options.ts';

const timeoutMs = 120_000;
const buildTimeoutMs = 1_200_000;
const root = path.resolve(import.meta.dirname, '../..');

/** Where the driver and its QEMU run; fio, and what it is compared with, always run on the machine itself. */
export interface Place {
  /** For the head of the report. */
  description: string;
  /** @returns a directory below `base` for workspaces, in which the machine sees what the driver mounts */
  open(base: string): Promise<string>;
  start(workspace: Workspace, metricsSocket: string): Promise<Standalone>;
  /** Ends whatever `start` left running, and removes what `open` made. */
  close(): Promise<void>;
}

/** The container image where docker is at hand, for its QEMU is the one that ships; else this machine. */
export async function choosePlace(options: BenchOptions, context: BuildContext): Promise<Place> {
  if (options.native) return nativePlace('as BENCH_NATIVE=1 asks for');
  const answer = await run('docker', ['info'], { timeoutMs }).catch((error: unknown) => messageOf(error));
  if (typeof answer === 'string') return nativePlace('there is no docker here to run the image with');
  return containerPlace(options.image ?? (await buildImage(context)));
}

/** What the disks of the benchmarks promise has nothing to do with what they use. */
const overcommit = ['--overcommit', '100000', '--log-level', 'warn'];

async function nativePlace(why: string): Promise<Place> {
  const version = await run('qemu-storage-daemon', ['--version'], { timeoutMs });
  return {
    description: `QEMU ${versionIn(version.stdout)} of this machine, not of the image: ${why}`,
    start: ({ pool, socket, runDir }, metricsSocket) =>
      startStandalone({ pool, socket, runDir, args: [...overcommit, '--metrics-socket', metricsSocket] }),
    open: async (base) => base,
    close: async () => {},
  };
}

async function containerPlace(image: string): Promise<Place> {
  const name = `lamina-bench-${randomUUID().slice(0, 8)}`;
  const daemon = ['run', '--rm', '--entrypoint', 'qemu-storage-daemon', image, '--version'];
  const version = await run('docker', daemon, { timeoutMs });
  let shared: string | null = null;
  return {
    description: `QEMU ${versionIn(version.stdout)} of the container image ${image}`,
    async open(base) {
      shared = await mkdtemp(path.join(base, 'lamina-'));
      // Mounts made in the container appear on the machine only below a shared mount.
      await run('mount', ['--bind', shared, shared], { timeoutMs });
      await run('mount', ['--make-shared', shared], { timeoutMs });
      return shared;
    },
    start({ directory, pool, socket, runDir }, metricsSocket) {
      const volumes = ['--volume', `${directory}:${directory}:rshared`, '--volume', '/dev:/dev'];
      const isolation = ['--privileged', '--network', 'host', '--init', '--rm', '--name', name];
      const command = ['docker', 'run', ...isolation, ...volumes, image] as const;
      return startStandalone({
        pool,
        socket,
        runDir,
        command,
        args: [...overcommit, '--metrics-socket', metricsSocket],
      });
    },
    async close() {
      // Docker may be removing it already, which is an error to it.
      await run('docker', ['rm', '--force', name], { timeoutMs, okExitCodes: [1] });
      if (!(await pollUntil(() => isGone(name), { timeoutMs, intervalMs: 100 }))) {
        throw new Error(`the container ${name} does not end`);
      }
      if (shared === null) return;
      await run('umount', [shared], { timeoutMs });
      await rmdir(shared);
    },
  };
}

async function isGone(container: string): Promise<boolean> {
  const { stdout } = await run('docker', ['ps', '--all', '--quiet', '--filter', `name=${container}`], { timeoutMs });
  return stdout === '';
}

interface BuildContext {
  say: (text: string) => void;
  signal: AbortSignal;
}

async function buildImage({ say, signal }: BuildContext): Promise<string> {
  const image = 'lamina:bench';
  say(`building the container image ${image} (BENCH_IMAGE=… measures one that is there, BENCH_NATIVE=1 none)`);
  await run('docker', ['build', '--network', 'host', '--tag', image, root], { timeoutMs: buildTimeoutMs, signal });
  return image;
}

function versionIn(text: string): string {
  return /version (\S+)/.exec(text)?.[1] ?? text;
}
