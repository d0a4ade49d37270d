import { Backoff } from '../../lib/backoff.ts';
import type { Clock } from '../../lib/clock.ts';

/** Work that has failed, and is not to be begun again before `againAfterMs` have passed. */
export interface FailedJob {
  kind: 'failed';
  error: unknown;
  /** Whether nobody has looked at it yet. */
  isNew: boolean;
  againAfterMs: number;
}

export type JobState<Progress> = { kind: 'running'; progress: Progress } | FailedJob;

export interface BackgroundJobsOptions {
  clock: Clock;
  random: () => number;
  /** Work that fails again and again is begun again after so long at most. */
  longestDelayMs: number;
  /** Called with the key of work that has ended by itself, well or not. */
  onEnded: (key: string) => void;
}

/** Whoever is asked for something should not be asked for it again and again while it says no. */
const backoff = { baseMs: 5000, jitter: 0.2 };

interface Running<Progress> {
  abort: AbortController;
  ended: Promise<void>;
  progress: Progress;
}

interface Failure {
  error: unknown;
  isNew: boolean;
  dueMs: number;
}

/** Work for objects that takes long, one for each key: it goes on between the reconciles that look at it. */
export class BackgroundJobs<Progress> {
  readonly #options: BackgroundJobsOptions;
  readonly #running = new Map<string, Running<Progress>>();
  readonly #failed = new Map<string, Failure>();
  /** Of keys whose work has failed the last time. */
  readonly #backoffs = new Map<string, Backoff>();

  constructor(options: BackgroundJobsOptions) {
    this.#options = options;
  }

  /** Begins work for a key for which `look` knows of none. It was done when nothing is known of it any more. */
  start(
    key: string,
    progress: Progress,
    work: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<unknown>,
  ): void {
    const running: Running<Progress> = { abort: new AbortController(), ended: Promise.resolve(), progress };
    const onProgress = (latest: Progress) => {
      running.progress = latest;
    };
    this.#running.set(key, running);
    const { signal } = running.abort;
    running.ended = this.#run(key, signal, () => work(signal, onProgress));
  }

  /** Whether work runs, or has failed and is not to be begun again yet. */
  has(key: string): boolean {
    return this.#running.has(key) || this.#failed.has(key);
  }

  /** How it is; undefined where work can be begun. */
  look(key: string): JobState<Progress> | undefined {
    const running = this.#running.get(key);
    if (running) return { kind: 'running', progress: running.progress };
    const failure = this.#failed.get(key);
    if (!failure) return undefined;
    const { error, isNew, dueMs } = failure;
    const againAfterMs = dueMs - this.#options.clock.elapsedMs();
    if (againAfterMs <= 0 && !isNew) {
      this.#failed.delete(key);
      return undefined;
    }
    failure.isNew = false;
    return { kind: 'failed', error, isNew, againAfterMs: Math.max(0, againAfterMs) };
  }

  /** Resolves when the work for a key has ended, and can be begun anew at once. Fine where there is none. */
  async abort(key: string): Promise<void> {
    const running = this.#running.get(key);
    running?.abort.abort(new Error('the work is not wanted any more'));
    await running?.ended;
    this.#failed.delete(key);
    this.#backoffs.delete(key);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((key) => this.abort(key)));
  }

  async #run(key: string, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
      this.#backoffs.delete(key);
    } catch (error) {
      if (!signal.aborted) this.#fail(key, error);
    } finally {
      this.#running.delete(key);
    }
    if (!signal.aborted) this.#options.onEnded(key);
  }

  #fail(key: string, error: unknown): void {
    const { clock, random, longestDelayMs: maxMs } = this.#options;
    const delays = this.#backoffs.get(key) ?? new Backoff({ ...backoff, random, maxMs });
    this.#backoffs.set(key, delays);
    this.#failed.set(key, { error, isNew: true, dueMs: clock.elapsedMs() + delays.next() });
  }
}
