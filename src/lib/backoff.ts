export interface BackoffOptions {
  /** The delay after the first failure. */
  baseMs: number;
  /** No delay is longer, but for the jitter. */
  maxMs: number;
  /** Up to this part of the delay is added by chance, so that many do not come back at once. */
  jitter: number;
  /** From 0 to below 1, as Math.random. */
  random: () => number;
}

/** How long to wait after `failures` failures in a row, of which there is at least one: doubled with each. */
export function backoffDelayMs(failures: number, { baseMs, maxMs, jitter, random }: BackoffOptions): number {
  const delayMs = Math.min(maxMs, baseMs * 2 ** (failures - 1));
  return delayMs * (1 + jitter * random());
}

/** The delays of one thing that is tried again and again. */
export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** Failures since the last success. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts a failure. @returns how long to wait, in milliseconds */
  next(): number {
    this.#failures++;
    return backoffDelayMs(this.#failures, this.#options);
  }

  reset(): void {
    this.#failures = 0;
  }
}
