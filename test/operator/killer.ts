import { pollUntil } from '../../src/lib/poll.ts';
import type { Daemon } from '../cluster/daemon.ts';

/**
 * Has a process kill itself at one of its steps after the other, and starts it again each time, as kubelet does. The
 * next step may not come by in what is done at the moment; then it is waited for.
 */
export class Killer {
  /** Steps at which it has not killed itself yet. */
  readonly pending: string[];
  readonly #daemon: Daemon;
  readonly #work: Promise<void>;
  #ended = false;

  /** @param steps the sooner they come by, the sooner all are done */
  constructor(daemon: Daemon, steps: readonly string[]) {
    this.#daemon = daemon;
    this.pending = [...steps];
    this.#work = this.#run();
  }

  /** Lets the process run as usual. */
  async end(): Promise<void> {
    this.#ended = true;
    await this.#work;
    await this.#daemon.kill9();
    await this.#daemon.start();
  }

  async #run(): Promise<void> {
    await this.#daemon.kill9();
    while (!this.#ended) {
      const [step] = this.pending;
      await this.#daemon.start(step === undefined ? {} : { LAMINA_KILL_AT: step });
      const hasDied = () => this.#daemon.pid === undefined;
      await pollUntil(() => this.#ended || hasDied(), { timeoutMs: 600_000, intervalMs: 20 });
      if (hasDied()) this.pending.shift();
    }
  }
}
