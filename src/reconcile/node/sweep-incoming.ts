import { type Clock, pause } from '../../lib/clock.ts';
import type { Logger } from '../../lib/logger.ts';
import type { ObjectCache } from '../../kube/cache/object-cache.ts';
import { refOf } from '../../kube/objects.ts';
import type { DiskImage } from '../../api/objects.ts';
import type { ImageId, LayerId } from '../../store/records.ts';
import { discardImage, listIncomingImages } from '../../transfer/import/incoming-image.ts';
import { imageIdOfRef } from '../identity.ts';
import type { ServedPool } from './node-pools.ts';

export interface IncomingSweeperOptions {
  /** The DiskImages of this node, and whether all of them have been seen once. */
  images: { readonly cache: ObjectCache<DiskImage>; readonly hasSynced: boolean };
  systemNamespace: string;
  /** Those that the cluster decides over. */
  served: () => readonly ServedPool[];
  /** What came of layers that nobody has gone on with since then. */
  removeAbandonedLayers: (pool: ServedPool, before: Date) => Promise<LayerId[]>;
  clock: Clock;
  logger: Logger;
}

/** Who has lost all objects declares them again by then, and the downloads go on. */
const abandonedMs = 24 * 3_600_000;
const sweepMs = 3_600_000;

/**
 * Removes what has come of layers, imports and uploads that nobody goes on with: of DiskImages that have vanished without being
 * deleted, and what a killed process left of images that it had made. What a DiskImage of this node may need stays, whether
 * that is understood or not; and so does everything that an import or upload works on at this moment.
 */
export class IncomingSweeper {
  readonly #options: IncomingSweeperOptions;
  /** What nobody wanted when it was looked at last: a cache that is behind is no reason to remove anything. */
  #unwanted = new Set<string>();

  constructor(options: IncomingSweeperOptions) {
    this.#options = options;
  }

  /** Works until `signal`. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#options.clock, sweepMs, signal);
      if (!signal.aborted) await this.sweep();
    }
  }

  /** Once. */
  async sweep(): Promise<void> {
    const { images, served, removeAbandonedLayers, clock } = this.#options;
    const oldest = new Date(clock.now().getTime() - abandonedMs);
    for (const pool of served()) await this.#attempt('layers', () => removeAbandonedLayers(pool, oldest));
    if (!images.hasSynced) return;
    const before = this.#unwanted;
    this.#unwanted = new Set();
    for (const pool of served()) await this.#attempt('images', () => this.#sweepImages(pool, oldest, before));
  }

  async #attempt(what: string, remove: () => Promise<string[]>): Promise<void> {
    const { logger } = this.#options;
    try {
      const removed = await remove();
      if (removed.length > 0) logger.info({ removed }, `removed what came of ${what} that nobody has gone on with`);
    } catch (error) {
      logger.warn({ error }, `what came of ${what} that nobody wants could not be removed`);
    }
  }

  async #sweepImages(
    { context: { pool }, images }: ServedPool,
    oldest: Date,
    unwantedBefore: ReadonlySet<string>,
  ): Promise<ImageId[]> {
    const removed: ImageId[] = [];
    for (const { id, changedAt } of await listIncomingImages(pool)) {
      await images.lockIfFree(id, async () => {
        const key = `${pool.id} ${id}`;
        // Of an image that is made, its layer has all that is needed.
        if (!pool.images.has(id)) {
          if (this.#isWanted(id)) return;
          this.#unwanted.add(key);
          if (!unwantedBefore.has(key) || changedAt >= oldest) return;
        }
        await discardImage(pool, id);
        removed.push(id);
      });
    }
    return removed;
  }

  #isWanted(id: ImageId): boolean {
    const { images, systemNamespace } = this.#options;
    return images.cache.keys().some((key) => imageIdOfRef(refOf(key), systemNamespace) === id);
  }
}
