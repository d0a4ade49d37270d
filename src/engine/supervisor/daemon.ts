import { closeSync, openSync } from 'node:fs';
import { LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { pollUntil } from '../../lib/poll.ts';
import {
  findProcessByArgument,
  identifyProcess,
  isAlive,
  type ProcessIdentity,
  signalProcess,
} from '../../host/process.ts';
import { monitorArgs, spawnStorageDaemon } from '../../qemu/storage-daemon.ts';
import {
  createDaemonFiles,
  type DaemonSpec,
  keepLogShort,
  readDaemonState,
  readLogTail,
  removeDaemonFiles,
  writeDaemonState,
} from './daemon-files.ts';
import { DaemonHealth } from './daemon-health.ts';
import type { DaemonPaths } from './run-directory.ts';
import type { DaemonReport } from './supervisor-protocol.ts';

/** The longest chains take their time on a busy machine (store/layers.ts). */
const startTimeoutMs = 120_000;
const quitAnswerMs = 2000;
/** Flushing the caches of a big image to a slow disk takes its time. */
const quitMs = 20_000;
const terminateMs = 3000;
const killMs = 10_000;

export interface DaemonContext {
  id: string;
  paths: DaemonPaths;
  healthTimeoutMs: number;
  logger: Logger;
}

/** One storage daemon, of this supervisor or of an earlier one. */
export class Daemon {
  readonly #context: DaemonContext;
  readonly #spec: DaemonSpec;
  readonly #process: ProcessIdentity;
  readonly #health: DaemonHealth;
  #state: DaemonReport['state'] = 'running';
  /** Its end is no news then. */
  #stopping = false;

  private constructor(context: DaemonContext, spec: DaemonSpec, identity: ProcessIdentity) {
    this.#context = context;
    this.#spec = spec;
    this.#process = identity;
    this.#health = new DaemonHealth(context.paths.healthSocket, context.healthTimeoutMs);
  }

  /**
   * Starts a daemon and waits until its export is there.
   * @throws LaminaError `tool-failed` with its last words where it ends or does not get ready; nothing is left then.
   */
  static async start(context: DaemonContext, spec: DaemonSpec): Promise<Daemon> {
    const { paths } = context;
    await createDaemonFiles(paths, spec);
    const identity = await spawnIdentified(paths, spec.arguments);
    if (!identity) {
      const words = await readLogTail(paths);
      await removeDaemonFiles(paths);
      throw new LaminaError('tool-failed', `the storage daemon of ${spec.diskId} ended at its start: ${words}`);
    }
    const daemon = new Daemon(context, spec, identity);
    try {
      await writeDaemonState(paths, identity);
    } catch (error) {
      // Nobody would know of it, and it would keep its images from every other.
      await daemon.stop();
      throw error;
    }
    if (await daemon.#becomesReady()) return daemon;
    const ended = !(await isAlive(identity));
    const words = await readLogTail(paths);
    await daemon.stop();
    const what = ended ? 'ended at its start' : `was not ready within ${startTimeoutMs} ms`;
    throw new LaminaError('tool-failed', `the storage daemon of ${spec.diskId} ${what}: ${words}`);
  }

  /** The daemon whose files an earlier supervisor left, dead or alive; null where it never came to run. */
  static async adopt(context: DaemonContext, spec: DaemonSpec): Promise<Daemon | null> {
    const { paths } = context;
    const known = await readDaemonState(paths);
    if (known) return new Daemon(context, spec, known);
    const found = await findProcessByArgument(paths.pid);
    if (!found) return null;
    await writeDaemonState(paths, found);
    return new Daemon(context, spec, found);
  }

  async report(): Promise<DaemonReport> {
    if (!(await isAlive(this.#process))) await this.#noteDeath();
    const { diskId, labels } = this.#spec;
    const pid = this.#state === 'dead' ? null : this.#process.pid;
    return { id: this.#context.id, diskId, pid, state: this.#state, labels };
  }

  /** Looks whether it lives and answers, and keeps its log short. */
  async check(): Promise<void> {
    if (this.#stopping) return;
    const answers = await this.#health.answers();
    const alive = await isAlive(this.#process);
    if (!alive) await this.#noteDeath();
    else this.#enter(answers ? 'running' : 'unresponsive');
    await keepLogShort(this.#context.paths.log);
  }

  /** Ends the process, first kindly, and removes what is there of it. Idempotent. @throws LaminaError `engine-unresponsive` */
  async stop(): Promise<void> {
    const identity = this.#process;
    this.#stopping = true;
    if (await isAlive(identity)) {
      const agreed = await this.#health.quit(quitAnswerMs);
      const ended =
        (agreed && (await ends(identity, quitMs))) ||
        (await endsBy(identity, 'SIGTERM', terminateMs)) ||
        (await endsBy(identity, 'SIGKILL', killMs));
      if (!ended) {
        const message = `the storage daemon of ${this.#spec.diskId} (process ${identity.pid}) does not end, even killed: it waits for its disk`;
        throw new LaminaError('engine-unresponsive', message);
      }
    }
    this.release();
    await removeDaemonFiles(this.#context.paths);
  }

  /** Lets go of it, without touching the process. */
  release(): void {
    this.#health.close();
  }

  async #becomesReady(): Promise<boolean> {
    let ready = false;
    await pollUntil(
      async () => {
        ready = await this.#health.answers();
        return ready || !(await isAlive(this.#process));
      },
      { timeoutMs: startTimeoutMs, intervalMs: 5 },
    );
    return ready;
  }

  async #noteDeath(): Promise<void> {
    if (this.#state === 'dead' || this.#stopping) return void (this.#state = 'dead');
    this.#enter('dead', await readLogTail(this.#context.paths));
  }

  #enter(state: DaemonReport['state'], lastWords?: string): void {
    if (state === this.#state || this.#stopping) return;
    const fields = { diskId: this.#spec.diskId, pid: this.#process.pid, was: this.#state, is: state, lastWords };
    this.#state = state;
    if (state === 'running') this.#context.logger.info(fields, 'storage daemon answers again');
    else this.#context.logger.error(fields, 'storage daemon failed: its volume is unhealthy');
  }
}

async function spawnIdentified(paths: DaemonPaths, args: readonly string[]): Promise<ProcessIdentity | null> {
  const monitors = [...monitorArgs('operations', paths.operationsSocket), ...monitorArgs('health', paths.healthSocket)];
  const log = openSync(paths.log, 'a', 0o600);
  try {
    const child = spawnStorageDaemon(['--pidfile', paths.pid, ...monitors, ...args], log);
    const failure = new Promise<Error>((resolve) => child.once('error', resolve));
    if (child.pid !== undefined) return await identifyProcess(child.pid);
    const error = await failure;
    throw new LaminaError('tool-missing', `qemu-storage-daemon cannot be started: ${error.message}`, { cause: error });
  } finally {
    closeSync(log);
  }
}

function ends(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  return pollUntil(async () => !(await isAlive(identity)), { timeoutMs, intervalMs: 5 });
}

async function endsBy(identity: ProcessIdentity, signal: NodeJS.Signals, timeoutMs: number): Promise<boolean> {
  await signalProcess(identity, signal);
  return ends(identity, timeoutMs);
}
