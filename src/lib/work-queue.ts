import { type BackoffOptions, backoffDelayMs } from './backoff.ts';
import type { Clock } from './clock.ts';

export interface WorkQueueOptions {
  clock: Clock;
  /** For keys that failed. */
  backoff: BackoffOptions;
}

/**
 * Keys that wait for workers, with the semantics of client-go's queue: a key that waits is not added twice; a key that
 * is being worked on is never given to a second worker, and when it is added meanwhile, it is given out once more
 * afterwards.
 */
export class WorkQueue {
  readonly #clock: Clock;
  readonly #backoff: BackoffOptions;
  /** Keys to be given out, in order. */
  readonly #waiting = new Set<string>();
  readonly #processing = new Set<string>();
  /** Keys that were added while they were being worked on. */
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { dueMs: number; cancel: () => void }>();
  readonly #failures = new Map<string, number>();
  readonly #idleWorkers: ((key: string | undefined) => void)[] = [];
  readonly #drained = Promise.withResolvers<void>();
  #closed = false;

  constructor({ clock, backoff }: WorkQueueOptions) {
    this.#clock = clock;
    this.#backoff = backoff;
  }

  /** Keys that could be worked on now, if there were enough workers. */
  get length(): number {
    return this.#waiting.size;
  }

  /** Has `key` worked on, from the state that there is then. Does nothing after the queue was shut down. */
  add(key: string): void {
    if (this.#closed) return;
    if (this.#processing.has(key)) this.#again.add(key);
    else this.#offer(key);
  }

  /** Adds `key` in `delayMs`; the earliest of several such wishes counts. */
  addAfter(key: string, delayMs: number): void {
    if (delayMs <= 0) return this.add(key);
    if (this.#closed) return;
    const dueMs = this.#clock.elapsedMs() + delayMs;
    const earlier = this.#delayed.get(key);
    if (earlier && earlier.dueMs <= dueMs) return;
    earlier?.cancel();
    const cancel = this.#clock.schedule(delayMs, () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { dueMs, cancel });
  }

  /** Counts a failure of `key` and adds it again later, the later the more there were; in `atLeastMs` at the earliest. */
  addAfterFailure(key: string, atLeastMs = 0): void {
    const failures = this.failuresOf(key) + 1;
    this.#failures.set(key, failures);
    this.addAfter(key, Math.max(atLeastMs, backoffDelayMs(failures, this.#backoff)));
  }

  /** How often `key` failed since it was last forgotten. */
  failuresOf(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** Forgets the failures of `key`, after a success. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** The next key, as soon as there is one; undefined once the queue is shut down. The worker must call `done` for it. */
  async next(): Promise<string | undefined> {
    const [key] = this.#waiting;
    if (key !== undefined) {
      this.#waiting.delete(key);
      this.#processing.add(key);
      return key;
    }
    if (this.#closed) return undefined;
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    this.#idleWorkers.push(resolve);
    return promise;
  }

  /** Says that the work on `key` has ended, well or badly. */
  done(key: string): void {
    this.#processing.delete(key);
    if (this.#again.delete(key)) this.#offer(key);
    this.#releaseIfDrained();
  }

  /**
   * Takes no more keys, and forgets delayed ones. `drain` still gives out what waits, `drop` does not.
   *
   * @returns when no key waits or is being worked on any more
   */
  async shutDown(how: 'drain' | 'drop'): Promise<void> {
    this.#closed = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    if (how === 'drop') {
      this.#waiting.clear();
      this.#again.clear();
    }
    for (const release of this.#idleWorkers.splice(0)) release(undefined);
    this.#releaseIfDrained();
    await this.#drained.promise;
  }

  #offer(key: string): void {
    const worker = this.#idleWorkers.shift();
    if (!worker) {
      this.#waiting.add(key);
      return;
    }
    this.#processing.add(key);
    worker(key);
  }

  #releaseIfDrained(): void {
    if (this.#closed && this.#waiting.size === 0 && this.#processing.size === 0) this.#drained.resolve();
  }
}
