import { messageOf } from '../../lib/errors.ts';
import { type HoldAttached, mergeLayers, nextMerge } from '../../store/compact.ts';
import type { DiskId } from '../../store/records.ts';
import { attachRequest, type DiskContext } from './disk-context.ts';

export type OnMerged = (merge: { costBytes: number; durationMs: number }) => void;

/** Merges layers in the background, one pair at a time, whenever names may have gone; below attached disks too. */
export class Compactor {
  readonly #context: DiskContext;
  readonly #onMerged: OnMerged;
  /** Disks whose daemons may have layers open that were merged since. After a restart nobody knows which. */
  readonly #behind: Set<DiskId>;
  #wanted = false;
  #running: Promise<void> | null = null;
  readonly #stop = new AbortController();

  /** @param onMerged told of each pair that was merged */
  constructor(context: DiskContext, onMerged: OnMerged = () => {}) {
    this.#context = context;
    this.#onMerged = onMerged;
    this.#behind = new Set(context.pool.attachedDisks());
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
        this.#context.logger.warn({ error: messageOf(error) }, 'compaction stopped');
      }
    }
  }

  async #pass(): Promise<void> {
    const { pool, locks, logger } = this.#context;
    for (const id of [...this.#behind]) await locks.run(id, () => this.#follow(id));
    for (let merge = await nextMerge(pool); merge; merge = await nextMerge(pool)) {
      const startMs = performance.now();
      const done = await mergeLayers(pool, merge, { hold: this.#hold, signal: this.#stop.signal });
      if (!done) return;
      const durationMs = performance.now() - startMs;
      logger.info({ ...merge, durationMs: Math.round(durationMs) }, 'merged two layers');
      this.#onMerged({ costBytes: merge.costBytes, durationMs });
    }
  }

  readonly #hold: HoldAttached = (disks, work) =>
    this.#context.locks.runAll(disks, async () => {
      if (!(await work())) return false;
      for (const id of disks) await this.#follow(id);
      return true;
    });

  /** The caller holds the disk's lock. A daemon that fails goes on with the former files, and the next pass tries again. */
  async #follow(id: DiskId): Promise<void> {
    this.#behind.add(id);
    try {
      const { pool, attacher } = this.#context;
      const disk = pool.disks.get(id);
      if (!disk || (await attacher.followMerges(attachRequest(pool, disk)))) this.#behind.delete(id);
    } catch (error) {
      const message = 'the storage daemon keeps files of layers open that were merged';
      this.#context.logger.warn({ diskId: id, error: messageOf(error) }, message);
    }
  }
}
