import type * as z from 'zod/mini';
import { errnoOf, isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { type DaemonPaths, daemonIdOf, type RunDirectory, runDirectory } from './run-directory.ts';
import { spawnSupervisor } from './spawn-supervisor.ts';
import { exchange } from './supervisor-exchange.ts';
import {
  type Command,
  type DaemonReport,
  daemonListSchema,
  daemonReportSchema,
  descriptionSchema,
  type EngineDescription,
  type StartRequest,
} from './supervisor-protocol.ts';

const listTimeoutMs = 15_000;
/** Longer than the supervisor's own deadlines. */
const changeTimeoutMs = 180_000;

export interface SupervisorClientOptions {
  /** Starts the supervisor where it does not answer; null where that is somebody else's work. */
  revive: (() => Promise<void>) | null;
  /** Which daemons of the supervisor are meant: those of one pool, where several share it. Empty: all have one pool. */
  scope: string;
}

/** Talks to the supervisor. Every request is idempotent, so one that met a dying supervisor is sent again. */
export class SupervisorClient {
  readonly #run: RunDirectory;
  readonly #socketPath: string;
  readonly #revive: (() => Promise<void>) | null;
  readonly #prefix: string;

  /** @param run the run directory of the supervisor */
  constructor(run: RunDirectory, { revive, scope }: SupervisorClientOptions) {
    this.#run = run;
    this.#socketPath = run.socket;
    this.#revive = revive;
    this.#prefix = scope === '' ? '' : `${scope}/`;
  }

  /** Of which QEMU its daemons will be. */
  async describe(): Promise<EngineDescription> {
    return parse(descriptionSchema, await this.#send({ do: 'describe' }, listTimeoutMs));
  }

  /** The daemons of this client's scope. */
  async listDaemons(): Promise<DaemonReport[]> {
    const all = parse(daemonListSchema, await this.#send({ do: 'list' }, listTimeoutMs));
    return all.filter(({ diskId }) => diskId.startsWith(this.#prefix)).map((daemon) => this.#unscoped(daemon));
  }

  /** The daemon of a disk, or null. */
  async findDaemon(diskId: string): Promise<DaemonReport | null> {
    return (await this.listDaemons()).find((daemon) => daemon.diskId === diskId) ?? null;
  }

  /** Idempotent. @throws LaminaError `engine-dead`, `tool-failed`, `engine-unavailable` */
  async startDaemon(request: StartRequest): Promise<DaemonReport> {
    const diskId = this.#prefix + request.diskId;
    const command = { do: 'start', id: daemonIdOf(diskId), request: { ...request, diskId } } as const;
    return this.#unscoped(parse(daemonReportSchema, await this.#send(command, changeTimeoutMs)));
  }

  /** Ends a disk's daemon and removes what is left of it. Idempotent. */
  async stopDaemon(diskId: string): Promise<void> {
    await this.#send({ do: 'stop', id: daemonIdOf(this.#prefix + diskId) }, changeTimeoutMs);
  }

  /** Where the files of a disk's daemon are. */
  pathsOf(diskId: string): DaemonPaths {
    return this.#run.daemon(daemonIdOf(this.#prefix + diskId));
  }

  #unscoped(daemon: DaemonReport): DaemonReport {
    return { ...daemon, diskId: daemon.diskId.slice(this.#prefix.length) };
  }

  async #send(command: Command, timeoutMs: number): Promise<unknown> {
    try {
      return await exchange(this.#socketPath, command, timeoutMs);
    } catch (error) {
      if (!isGone(error)) throw this.#unavailable(error);
      if (this.#revive) await this.#revive();
    }
    try {
      return await exchange(this.#socketPath, command, timeoutMs);
    } catch (error) {
      throw this.#unavailable(error);
    }
  }

  #unavailable(error: unknown): unknown {
    if (isLaminaError(error)) return error;
    const message = `the engine's supervisor does not answer at ${this.#socketPath} (${messageOf(error)}): is 'lamina engine' running?`;
    return new LaminaError('engine-unavailable', message, { cause: error });
  }
}

export interface EnsureSupervisorOptions {
  runDir: string;
  /** Program and first arguments; `--run-dir DIR` and `--idle-exit-seconds N` are added. */
  command: readonly [string, ...string[]];
  idleExitSeconds: number;
  logger: Logger;
}

/**
 * A client of the run directory's supervisor, which is started, detached, where there is none, now and whenever it is
 * found gone. Callers may race: the run directory's lock lets one supervisor live.
 * @throws LaminaError `engine-unavailable` with the supervisor's last words.
 */
export async function ensureSupervisor(options: EnsureSupervisorOptions): Promise<SupervisorClient> {
  const run = runDirectory(options.runDir);
  const args = ['--run-dir', run.root, '--idle-exit-seconds', String(options.idleExitSeconds)];
  const answers = () => new SupervisorClient(run, { revive: null, scope: '' }).listDaemons().then(yes, noIfUnavailable);
  let reviving: Promise<void> | null = null;
  const revive = () => {
    reviving ??= spawnSupervisor({
      run,
      command: [...options.command, ...args],
      answers,
      logger: options.logger,
    }).finally(() => {
      reviving = null;
    });
    return reviving;
  };
  const client = new SupervisorClient(run, { revive, scope: '' });
  await client.listDaemons();
  return client;
}

const yes = () => true;

function noIfUnavailable(error: unknown): boolean {
  if (isLaminaError(error, 'engine-unavailable')) return false;
  throw error;
}

function isGone(error: unknown): boolean {
  return ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(errnoOf(error) ?? '');
}

function parse<T extends z.ZodMiniType>(schema: T, result: unknown): z.infer<T> {
  const parsed = schema.safeParse(result);
  if (parsed.success) return parsed.data;
  const found = JSON.stringify(result).slice(0, 200);
  throw new LaminaError('engine-unavailable', `the supervisor's answer is not understood: ${found}`);
}
