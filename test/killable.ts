import { status } from '@grpc/grpc-js';
import { pollUntil } from '../src/lib/poll.ts';
import type { CsiClient } from './csi-client.ts';
import { type Standalone, type StandaloneOptions, startStandalone } from './standalone.ts';

/**
 * A standalone plugin that kills itself at one step, and an orchestrator that, as CSI has it, starts it again and
 * repeats the call that broke off.
 */
export class KillablePlugin {
  readonly #options: StandaloneOptions;
  readonly #killAt: string;
  #standalone: Standalone | undefined;
  /** Whether the step was reached. */
  killed = false;

  constructor(options: StandaloneOptions, killAt: string) {
    this.#options = options;
    this.#killAt = killAt;
  }

  async start(): Promise<void> {
    const env = this.killed ? {} : { LAMINA_KILL_AT: this.#killAt };
    try {
      this.#standalone = await startStandalone({ ...this.#options, env });
    } catch (error) {
      // Killed before it was ready: by a step of its recovery.
      if (this.killed || !String(error).includes('SIGKILL')) throw error;
      this.killed = true;
      await this.start();
    }
  }

  /** Makes a call, and again after a restart where the plugin was killed in it. */
  async call<T>(work: (client: CsiClient) => Promise<T>): Promise<T> {
    try {
      return await work(this.#running().client);
    } catch (error) {
      if (!(await this.#wasKilled(error))) throw error;
      await this.start();
      return work(this.#running().client);
    }
  }

  /** Waits for background work to reach the step, and starts again after it. */
  async awaitKill(timeoutMs: number): Promise<void> {
    if (this.killed) return;
    if ((await this.#end(timeoutMs)) !== 'SIGKILL') return;
    this.killed = true;
    await this.start();
  }

  async stop(): Promise<void> {
    await this.#running().stop();
  }

  /** What the present process has logged. */
  stderr(): string {
    return this.#running().stderr();
  }

  #running(): Standalone {
    if (!this.#standalone) throw new Error('the plugin was not started');
    return this.#standalone;
  }

  /** How it ended, or undefined where it has not within that time. */
  async #end(timeoutMs: number): Promise<number | NodeJS.Signals | undefined> {
    const { process: child } = this.#running();
    const end = () => child.signalCode ?? child.exitCode;
    await pollUntil(async () => end() !== null, { timeoutMs, intervalMs: 10 });
    return end() ?? undefined;
  }

  async #wasKilled(error: unknown): Promise<boolean> {
    const code = (error as { code?: status }).code;
    if (this.killed || code === undefined || ![status.UNAVAILABLE, status.INTERNAL, status.CANCELLED].includes(code))
      return false;
    if ((await this.#end(5000)) !== 'SIGKILL') return false;
    this.killed = true;
    return true;
  }
}
