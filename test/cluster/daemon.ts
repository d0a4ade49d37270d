import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { identityIn } from '../../src/host/process.ts';
import { pollUntil } from '../../src/lib/poll.ts';

export interface DaemonOptions {
  name: string;
  /** Where its process id and its log are kept. Something on its command line must be below the scene's directory. */
  directory: string;
  command: readonly [string, ...string[]];
  env?: Record<string, string>;
  /** Whether it is started again whenever it ends by itself, as kubelet does with containers. */
  restarted?: boolean;
}

/** Runs its arguments again and again. */
const keepRunning = ['bash', '-c', 'while :; do "$@"; sleep 0.3; done', 'restarted'] as const;

/**
 * A process that outlives whoever started it, and can be ended by others: all that is known of it is in a file. So one
 * test starts it, and another kills it.
 */
export class Daemon {
  readonly name: string;
  readonly logFile: string;
  readonly #pidFile: string;
  readonly #options: DaemonOptions;

  constructor(options: DaemonOptions) {
    this.name = options.name;
    this.#options = options;
    this.#pidFile = path.join(options.directory, `${options.name}.pid`);
    this.logFile = path.join(options.directory, `${options.name}.log`);
  }

  /** Starts it unless it runs. @param env added to its environment this time only, such as LAMINA_KILL_AT */
  async start(env: Record<string, string> = {}): Promise<void> {
    if (this.pid !== undefined) return;
    const { command, restarted } = this.#options;
    const [file, ...args] = restarted ? ([...keepRunning, ...command] as const) : command;
    mkdirSync(this.#options.directory, { recursive: true });
    const log = openSync(this.logFile, 'a');
    try {
      const child = spawn(file, args, {
        detached: true,
        stdio: ['ignore', log, log],
        env: { ...process.env, ...this.#options.env, ...env },
      });
      await once(child, 'spawn');
      writeFileSync(this.#pidFile, `${child.pid} ${startTimeOf(Number(child.pid))}`);
      child.unref();
    } finally {
      closeSync(log);
    }
  }

  /** Of the running process; undefined where it has ended or was never started. */
  get pid(): number | undefined {
    if (!existsSync(this.#pidFile)) return undefined;
    const [pid, startTime] = readFileSync(this.#pidFile, 'utf8').split(' ').map(Number);
    return pid !== undefined && startTimeOf(pid) === startTime ? pid : undefined;
  }

  /** Ends it by SIGTERM, and by SIGKILL where that is not enough. @throws where it was not */
  async stop(): Promise<void> {
    if (await this.#end('SIGTERM', 30_000)) return;
    await this.kill9();
    throw new Error(`${this.name} did not end within 30 s of SIGTERM; its last words:\n${this.lastWords()}`);
  }

  async kill9(): Promise<void> {
    if (!(await this.#end('SIGKILL', 10_000))) throw new Error(`${this.name} does not end by SIGKILL`);
  }

  async restart(env: Record<string, string> = {}): Promise<void> {
    await this.stop();
    await this.start(env);
  }

  /** The end of its log. */
  lastWords(lines = 10): string {
    if (!existsSync(this.logFile)) return '';
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  async #end(signal: NodeJS.Signals, timeoutMs: number): Promise<boolean> {
    const { pid } = this;
    if (pid !== undefined) {
      // Those that are started again are a group: the shell that does that, and the program.
      process.kill(this.#options.restarted ? -pid : pid, signal);
      if (!(await pollUntil(() => this.pid === undefined, { timeoutMs, intervalMs: 10 }))) return false;
    }
    rmSync(this.#pidFile, { force: true });
    return true;
  }
}

/**
 * Undefined where it has ended. The number may belong to another program by now, which has started later. The command line
 * does not tell: a process has none for a moment whenever it becomes another program.
 */
function startTimeOf(pid: number): number | undefined {
  try {
    return identityIn(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.startTime;
  } catch {
    return undefined;
  }
}
