import { type Clock, pause } from './clock.ts';

/** For this long a bucket saves up what was not used. */
const burstSeconds = 0.25;

/**
 * Bounds the rate of everything that takes from it together. Who takes more than there is waits until it has come in;
 * first come, first served.
 */
export class TokenBucket {
  readonly #clock: Clock;
  #perSecond: number;
  #available = 0;
  #filledAtMs: number;

  /** @param perSecond bytes, or whatever is taken; Infinity bounds nothing */
  constructor(perSecond: number, clock: Clock) {
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#filledAtMs = clock.elapsedMs();
  }

  get perSecond(): number {
    return this.#perSecond;
  }

  /** Who waits already is not concerned. */
  set perSecond(perSecond: number) {
    this.#refill();
    this.#perSecond = perSecond;
  }

  /** Resolves when `amount` may be used. @throws the reason of `signal` */
  async take(amount: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#perSecond === Number.POSITIVE_INFINITY) return;
    this.#refill();
    this.#available -= amount;
    if (this.#available >= 0) return;
    await pause(this.#clock, (-this.#available / this.#perSecond) * 1000, signal);
    signal?.throwIfAborted();
  }

  #refill(): void {
    const nowMs = this.#clock.elapsedMs();
    const gained = (this.#perSecond * (nowMs - this.#filledAtMs)) / 1000;
    this.#filledAtMs = nowMs;
    if (this.#perSecond === Number.POSITIVE_INFINITY) return;
    this.#available = Math.min(this.#available + gained, this.#perSecond * burstSeconds);
  }
}
