import { untilAborted } from '../lib/abort.ts';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { WorkQueue } from '../lib/work-queue.ts';
import { isConflict, retryAfterMsOf } from './client/api-error.ts';
import type { KubeObject } from './objects.ts';
import type { Reflector } from './cache/reflector.ts';

/** Nothing to do until something changes; or to be looked at again, whatever happens. */
export type ReconcileResult = 'done' | { againAfterMs: number };

/**
 * Brings what belongs to `key` into the wanted state, from what is there now: not from what has changed. Called for one
 * key at a time, at any time, any number of times. May throw; it is called again later then.
 */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<ReconcileResult>;

export interface ControllerOptions {
  /** For logs and metrics. */
  name: string;
  reconcile: Reconcile;
  /** How many keys are worked on at once. */
  workers: number;
  clock: Clock;
  random: () => number;
  logger: Logger;
  observer?: ControllerObserver;
}

/** What metrics are made of. */
export interface ControllerObserver {
  observeReconcile(reconcile: {
    controller: string;
    result: 'done' | 'again' | 'conflict' | 'error';
    durationMs: number;
  }): void;
  observeQueue(queue: { controller: string; length: number }): void;
}

/** Has keys reconciled until their objects are as they are wanted. */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #queue: WorkQueue;
  readonly #sources: { whenSynced: (signal: AbortSignal) => Promise<void>; unsubscribe: () => void }[] = [];
  /** What was logged last of keys that fail. */
  readonly #complaints = new Map<string, string>();

  constructor(options: ControllerOptions) {
    const { clock, random } = options;
    this.#options = options;
    this.#queue = new WorkQueue({ clock, backoff: { baseMs: 20, maxMs: 60_000, jitter: 0.5, random } });
  }

  /** Has the keys that `keysOf` gives reconciled whenever an object changes, as it was before and as it is afterwards. */
  watch<T extends KubeObject>(reflector: Reflector<T>, keysOf: (object: T) => readonly string[]): void {
    const unsubscribe = reflector.subscribe(({ before, after }) => {
      for (const object of [before, after]) {
        if (object) for (const key of keysOf(object)) this.enqueue(key);
      }
    });
    this.#sources.push({ whenSynced: (signal) => reflector.whenSynced(signal), unsubscribe });
  }

  enqueue(key: string): void {
    this.#queue.add(key);
    this.#observeQueue();
  }

  enqueueAfter(key: string, delayMs: number): void {
    this.#queue.addAfter(key, delayMs);
  }

  /**
   * Works until `signal` aborts, and then until the reconciles that are under way have ended; they get the signal, too.
   * Begins when all watched caches have synced. For one run only.
   */
  async run(signal: AbortSignal): Promise<void> {
    for (const source of this.#sources) await source.whenSynced(signal);
    const workers = signal.aborted ? [] : Array.from({ length: this.#options.workers }, () => this.#work(signal));
    await untilAborted(signal);
    for (const { unsubscribe } of this.#sources) unsubscribe();
    await this.#queue.shutDown('drop');
    await Promise.all(workers);
  }

  async #work(signal: AbortSignal): Promise<void> {
    for (let key = await this.#queue.next(); key !== undefined; key = await this.#queue.next()) {
      this.#observeQueue();
      try {
        if (!signal.aborted) await this.#reconcile(key, signal);
      } catch (error) {
        // What observes reconciles must not end them.
        this.#options.logger.error({ error, controller: this.#options.name, key }, 'an observer failed');
      } finally {
        this.#queue.done(key);
      }
    }
  }

  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    const { name, reconcile, observer } = this.#options;
    const startMs = performance.now();
    let result: 'done' | 'again' | 'conflict' | 'error';
    try {
      const wish = await reconcile(key, signal);
      result = wish === 'done' ? 'done' : 'again';
      this.#succeeded(key);
      if (wish !== 'done') this.#queue.addAfter(key, wish.againAfterMs);
    } catch (error) {
      // What is interrupted fails in all kinds of ways, none of which says anything.
      if (signal.aborted) return;
      result = isConflict(error) ? 'conflict' : 'error';
      this.#failed(key, error);
    }
    observer?.observeReconcile({ controller: name, result, durationMs: performance.now() - startMs });
  }

  #succeeded(key: string): void {
    this.#queue.forget(key);
    if (!this.#complaints.delete(key)) return;
    this.#options.logger.info({ controller: this.#options.name, key }, 'reconciled after failures');
  }

  /** Logs a failure once, not each time it happens again. */
  #failed(key: string, error: unknown): void {
    const { name, logger } = this.#options;
    this.#queue.addAfterFailure(key, retryAfterMsOf(error));
    const fields = { error, controller: name, key, failures: this.#queue.failuresOf(key) };
    if (isConflict(error)) return logger.debug(fields, 'somebody else changed the object; trying again');
    const complaint = messageOf(error);
    if (this.#complaints.get(key) === complaint) return logger.debug(fields, 'the reconcile failed again');
    this.#complaints.set(key, complaint);
    logger.error(fields, 'the reconcile failed; trying again');
  }

  #observeQueue(): void {
    this.#options.observer?.observeQueue({ controller: this.#options.name, length: this.#queue.length });
  }
}
