import type { Clock } from '../../lib/clock.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';

/** What the elected one works under. */
export interface Leadership {
  /** Aborts when the leadership is lost, or the process is to stop. */
  readonly signal: AbortSignal;
  /** @throws LaminaError `leadership-lost` from the moment on at which another might be elected soon */
  assertHeld(): void;
}

/** The times of Kubernetes' own components: for how long others wait, and a third less, after which we give up. */
export const durationMs = 15_000;
export const renewDeadlineMs = 10_000;

/**
 * The time from an election to its end. It counts from before a renewal is sent, since others may see the lease change
 * from then on.
 */
export class Term implements Leadership {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #controller = new AbortController();
  readonly #stop: () => void;
  #renewedAtMs: number;
  #cancelTimer: () => void;
  #isLost = false;

  constructor({ clock, logger }: { clock: Clock; logger: Logger }, electedAtMs: number, stop: AbortSignal) {
    this.#clock = clock;
    this.#logger = logger;
    this.#renewedAtMs = electedAtMs;
    const end = () => this.end();
    stop.addEventListener('abort', end, { once: true });
    this.#stop = () => stop.removeEventListener('abort', end);
    this.#cancelTimer = this.#startTimer();
    if (stop.aborted) this.end();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  assertHeld(): void {
    // The clock tells it even where the timer is late, as after a pause of the whole machine.
    if (!this.signal.aborted && this.#remainingMs() > 0) return;
    throw new LaminaError('leadership-lost', 'this process is not elected any more; another goes on with its work');
  }

  renew(atMs: number): void {
    if (this.signal.aborted) return;
    this.#renewedAtMs = atMs;
    this.#cancelTimer();
    this.#cancelTimer = this.#startTimer();
  }

  lose(why: string): void {
    if (this.signal.aborted) return;
    this.#logger.error({ why }, 'the election is lost; stopping all work');
    this.#isLost = true;
    this.end();
  }

  /** Stops the work; not a loss. */
  end(): void {
    this.#cancelTimer();
    this.#stop();
    this.#controller.abort(new LaminaError('leadership-lost', 'this process has stopped its elected work'));
  }

  #startTimer(): () => void {
    return this.#clock.schedule(this.#remainingMs(), () => this.lose(`not renewed for ${renewDeadlineMs} ms`));
  }

  #remainingMs(): number {
    return this.#renewedAtMs + renewDeadlineMs - this.#clock.elapsedMs();
  }
}
