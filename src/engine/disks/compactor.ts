import { messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { mergeLayers, nextMerge } from '../../store/compact.ts';
import type { Pool } from '../../store/pool.ts';

export type OnMerged = (merge: { costBytes: number; durationMs: number }) => void;

/** Merges layers in the background, one pair at a time, whenever names may have gone. */
export class Compactor {
  readonly #pool: Pool;
  readonly #logger: Logger;
  readonly #onMerged: OnMerged;
  #wanted = false;
  #running: Promise<void> | null = null;
  readonly #stop = new AbortController();

  /** @param onMerged told of each pair that was merged */
  constructor(pool: Pool, logger: Logger, onMerged: OnMerged = () => {}) {
    this.#pool = pool;
    this.#logger = logger;
    this.#onMerged = onMerged;
  }

  /** Starts a pass, or one more after the running one. */
  readonly wake = (): void => {
    this.#wanted = true;
    this.#running ??= this.#work().finally(() => {
      this.#running = null;
    });
  };

  /** Resolves when there is nothing to merge any more. */
  async settled(): Promise<void> {
    while (this.#running) await this.#running;
  }

  /** Gives up what is being merged, which leaves all as it was. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.settled();
  }

  async #work(): Promise<void> {
    while (this.#wanted && !this.#stop.signal.aborted) {
      this.#wanted = false;
      try {
        await this.#pass();
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        // What is merged is only ever a copy, so nothing is lost; the next change of names tries again.
        this.#logger.warn({ error: messageOf(error) }, 'compaction stopped');
      }
    }
  }

  async #pass(): Promise<void> {
    for (let merge = await nextMerge(this.#pool); merge; merge = await nextMerge(this.#pool)) {
      const startMs = performance.now();
      const done = await mergeLayers(this.#pool, merge, this.#stop.signal);
      if (!done) return;
      const durationMs = performance.now() - startMs;
      this.#logger.info({ ...merge, durationMs: Math.round(durationMs) }, 'merged two layers');
      this.#onMerged({ costBytes: merge.costBytes, durationMs });
    }
  }
}
