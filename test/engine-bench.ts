import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { QemuAttacher } from '../src/engine/attach/attacher.ts';
import type { DataPath } from '../src/engine/attach/data-path.ts';
import type { EngineStep } from '../src/engine/attach/steps.ts';
import { ensureSupervisor, type SupervisorClient } from '../src/engine/supervisor/supervisor-client.ts';
import { isAlive, identifyProcess } from '../src/host/process.ts';
import type { Checkpoint } from '../src/lib/checkpoint.ts';
import { messageOf } from '../src/lib/errors.ts';
import { pollUntil } from '../src/lib/poll.ts';
import { type ChainLayer, type Format, layerIdSchema } from '../src/store/records.ts';
import { silentLogger } from './fakes/silent-logger.ts';
import { clearBelow, leaksBelow } from './leaks.ts';

/** Buffered over FUSE: right with every QEMU. */
export const safeDataPath: DataPath = {
  backend: 'fuse',
  exportDirectIo: false,
  rawDirectIo: true,
  imageDirectIo: true,
};

export const supervisorCommand = [
  process.execPath,
  path.resolve(import.meta.dirname, 'fixtures/supervisor.ts'),
] as const;

/** A run directory with a supervisor of its own, a directory for images, and attachers, for one test. */
export class EngineBench {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'lamina-engine-'));
  readonly runDir = path.join(this.directory, 'run');
  /**
   * How long a daemon may take to answer before it counts as one that hangs; null: as in service. What waits for a slow disk
   * takes seconds.
   */
  healthTimeoutMs: number | null = null;
  readonly #mounts: string[] = [];
  #layers = 0;
  #made = 0;

  ensureSupervisor(idleExitSeconds = 600): Promise<SupervisorClient> {
    const limit = this.healthTimeoutMs === null ? [] : ['--health-timeout-ms', String(this.healthTimeoutMs)];
    const command = [...supervisorCommand, ...limit] as const;
    return ensureSupervisor({ runDir: this.runDir, command, idleExitSeconds, logger: silentLogger });
  }

  /** A plugin's view: a new one stands for a restarted plugin. */
  async attacher(
    options: { dataPath?: DataPath; checkpoint?: Checkpoint<EngineStep>; idleExitSeconds?: number } = {},
  ): Promise<QemuAttacher> {
    const { dataPath = safeDataPath, checkpoint = () => {}, idleExitSeconds } = options;
    return new QemuAttacher({ client: await this.ensureSupervisor(idleExitSeconds), dataPath, checkpoint });
  }

  image(format: Format, sizeBytes: number, options: { backing?: ChainLayer; preallocation?: string } = {}): ChainLayer {
    const id = layerIdSchema.parse(`l${String(++this.#layers).padStart(24, '0')}`);
    const file = path.join(this.directory, `${id}.${format}`);
    const { backing, preallocation = 'off' } = options;
    // Subclusters of 4 KiB: discards that do not cover whole (sub)clusters are refused by a FUSE export.
    const subclusters = format === 'qcow2' ? ',cluster_size=128k,extended_l2=on' : '';
    const settings = ['-o', `preallocation=${preallocation}${subclusters}`];
    const from = backing ? ['-b', backing.path, '-F', backing.format] : [];
    sh('qemu-img', 'create', '-q', '-f', format, ...settings, ...from, file, String(sizeBytes));
    return { id, format, path: file, virtualSizeBytes: sizeBytes };
  }

  /** Mounts a device; unmounted at the latest with the bench. */
  mount(device: string): string {
    const directory = path.join(this.directory, `mount-${++this.#made}`);
    mkdirSync(directory);
    sh('mount', device, directory);
    this.#mounts.push(directory);
    return directory;
  }

  unmount(directory: string): void {
    sh('umount', directory);
    this.#mounts.splice(this.#mounts.indexOf(directory), 1);
  }

  supervisorPid(): number {
    return (JSON.parse(readFileSync(path.join(this.runDir, 'engine.lock'), 'utf8')) as { pid: number }).pid;
  }

  async daemonPid(diskId: string): Promise<number> {
    const daemon = await (await this.ensureSupervisor()).findDaemon(diskId);
    if (!daemon?.pid) throw new Error(`${diskId} has no running daemon`);
    return daemon.pid;
  }

  /** Unmounts and ends the supervisor, and fails where anything else is still there: tests detach what they attach. */
  async close(): Promise<void> {
    for (const directory of [...this.#mounts]) this.unmount(directory);
    const attacher = await this.attacher();
    const daemons = await attacher.daemonDiskIds();
    const failures: string[] = [];
    for (const diskId of daemons) {
      await attacher.detach({ diskId, chain: [] }).catch((error: unknown) => failures.push(messageOf(error)));
    }
    await kill(this.supervisorPid(), 'SIGTERM');
    const leaks = await leaksBelow(this.directory);
    await clearBelow(this.directory);
    expect({ daemons, failures, leaks }).toEqual({ daemons: [], failures: [], leaks: [] });
  }
}

/** Sends a signal and, where it ends a process, waits for the end. */
export async function kill(pid: number, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  const identity = await identifyProcess(pid);
  if (!identity) throw new Error(`no process ${pid}`);
  process.kill(pid, signal);
  const ended = await pollUntil(async () => !(await isAlive(identity)), { timeoutMs: 10_000, intervalMs: 5 });
  if (!ended) throw new Error(`process ${pid} does not end by ${signal}`);
}

export function sh(file: string, ...args: string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Bytes a file occupies. */
export function allocatedBytes(file: string): number {
  return statSync(file).blocks * 512;
}
