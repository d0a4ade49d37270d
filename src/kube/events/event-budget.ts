import type { Clock } from '../../lib/clock.ts';

/** As client-go's recorder: what an object may say at once, and how soon it may say one thing more. */
const burst = 25;
const refillMs = 5 * 60_000;
const maxSubjects = 5000;

/** Bounds the different events per object, so that one that fails in ever new words does not fill the API server. */
export class EventBudget {
  readonly #clock: Clock;
  readonly #spent = new Map<string, { tokens: number; atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the subject may have one more event now; counts it then. */
  take(subject: string): boolean {
    const nowMs = this.#clock.elapsedMs();
    const before = this.#spent.get(subject) ?? { tokens: burst, atMs: nowMs };
    const tokens = Math.min(burst, before.tokens + (nowMs - before.atMs) / refillMs);
    this.#spent.delete(subject);
    this.#spent.set(subject, { tokens: tokens < 1 ? tokens : tokens - 1, atMs: nowMs });
    this.#forgetOldest();
    return tokens >= 1;
  }

  #forgetOldest(): void {
    const [oldest] = this.#spent.keys();
    if (this.#spent.size > maxSubjects && oldest !== undefined) this.#spent.delete(oldest);
  }
}
