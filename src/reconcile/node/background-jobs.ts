/** Work that goes on, or that has failed and was not looked at since. */
export type JobState<Progress> = { kind: 'running'; progress: Progress } | { kind: 'failed'; error: unknown };

interface Running<Progress> {
  abort: AbortController;
  ended: Promise<void>;
  progress: Progress;
}

/** Work for objects that takes long, one for each key: it goes on between the reconciles that look at it. */
export class BackgroundJobs<Progress> {
  readonly #onEnded: (key: string) => void;
  readonly #running = new Map<string, Running<Progress>>();
  readonly #failed = new Map<string, unknown>();

  /** @param onEnded called with the key of work that has ended by itself, well or not */
  constructor(onEnded: (key: string) => void) {
    this.#onEnded = onEnded;
  }

  /** Begins work for a key for which there is none. It was done when nothing is known of it any more. */
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

  /** Whether there is something to look at. */
  has(key: string): boolean {
    return this.#running.has(key) || this.#failed.has(key);
  }

  /** How it is. A failure is told once. */
  look(key: string): JobState<Progress> | undefined {
    const running = this.#running.get(key);
    if (running) return { kind: 'running', progress: running.progress };
    if (!this.#failed.has(key)) return undefined;
    const error = this.#failed.get(key);
    this.#failed.delete(key);
    return { kind: 'failed', error };
  }

  /** Resolves when the work for a key has ended. Fine where there is none. */
  async abort(key: string): Promise<void> {
    const running = this.#running.get(key);
    running?.abort.abort(new Error('the work is not wanted any more'));
    await running?.ended;
    this.#failed.delete(key);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((key) => this.abort(key)));
  }

  async #run(key: string, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!signal.aborted) this.#failed.set(key, error);
    } finally {
      this.#running.delete(key);
    }
    if (!signal.aborted) this.#onEnded(key);
  }
}
