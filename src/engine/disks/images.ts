import { LaminaError } from '../../lib/errors.ts';
import { deleteImage, deleteSnapshot } from '../../store/delete.ts';
import { imageIdOf, transientImageSnapshotId } from '../../store/ids.ts';
import { type ImageFacts, recordImage } from '../../store/images.ts';
import type { DiskSource, ImageId, ImageRecord, LayerId } from '../../store/records.ts';
import type { DiskContext } from './disk-context.ts';
import { snapshotDisk } from './snapshot-disk.ts';

interface SealedContent {
  layer: LayerId;
  filesystem: ImageRecord['filesystem'];
  digest?: string | null;
}

/** What is asked of the images of one pool, beside importing them (transfer/import.ts). */
export class Images {
  readonly #context: DiskContext;
  readonly #onNamesGone: () => void;

  /** @param onNamesGone called when layers may have lost their names, and can be merged */
  constructor(context: DiskContext, onNamesGone: () => void) {
    this.#context = context;
    this.#onNamesGone = onNamesGone;
  }

  /**
   * Makes an image of what a disk, a snapshot or an image holds now, or finds the one of that name. Nothing is copied:
   * the sealed layer gets one more name.
   *
   * @throws LaminaError `disk-not-found`, `snapshot-not-found`, `image-not-found`, `live-snapshot-unsupported`, `pool-full`
   */
  async create({ name, source }: { name: string; source: DiskSource }): Promise<ImageRecord> {
    const { pool } = this.#context;
    const id = imageIdOf(name);
    return this.lock(id, async () => {
      const existing = pool.images.get(id);
      if (existing) return existing;
      switch (source.kind) {
        case 'snapshot':
          return this.#name({ id, name }, this.#readySnapshot(source.id));
        case 'image':
          return this.#name({ id, name }, pool.image(source.id));
        case 'disk':
          return this.#takeFromDisk({ id, name }, source.id);
      }
    });
  }

  /** Makes an image of a sealed layer that was brought here, which the caller keeps pinned, or finds the one of that name. */
  async adopt(name: string, content: SealedContent): Promise<ImageRecord> {
    const id = imageIdOf(name);
    return this.lock(id, async () => this.#context.pool.images.get(id) ?? this.#name({ id, name }, content));
  }

  /** Idempotent. Disks that started from it keep what they share with it. */
  async delete(imageId: string): Promise<void> {
    const { pool } = this.#context;
    await this.lock(imageId, () => deleteImage(pool, imageId as ImageId));
    this.#onNamesGone();
  }

  /** Runs `work` while nothing else makes, imports or deletes that image. */
  async lock<T>(imageId: string, work: () => Promise<T>): Promise<T> {
    return this.#context.locks.run(`image:${imageId}`, work);
  }

  /** The same, but not where somebody does so at this moment. @returns whether it was run */
  async lockIfFree(imageId: string, work: () => Promise<void>): Promise<boolean> {
    const { locks } = this.#context;
    if (locks.isHeld(`image:${imageId}`)) return false;
    await this.lock(imageId, work);
    return true;
  }

  #readySnapshot(id: string): SealedContent {
    const snapshot = this.#context.pool.snapshot(id);
    if (snapshot.state === 'ready' && !snapshot.transient) return snapshot;
    throw new LaminaError('snapshot-not-found', `snapshot ${id} is not ready`);
  }

  async #name(image: Pick<ImageFacts, 'id' | 'name'>, content: SealedContent): Promise<ImageRecord> {
    const { pool } = this.#context;
    const { layer, filesystem, digest = null } = content;
    return pool.withPins([layer], async () => {
      const record = await recordImage(pool, { ...image, filesystem, digest }, layer);
      pool.checkpoint('take-image/image-recorded');
      return record;
    });
  }

  /** By way of a snapshot that only lives as long as this takes. */
  async #takeFromDisk(image: Pick<ImageFacts, 'id' | 'name'>, diskId: string): Promise<ImageRecord> {
    const { pool, locks } = this.#context;
    pool.disk(diskId);
    const transient = { id: transientImageSnapshotId(image.id), name: `image ${image.name}`, transient: true };
    const snapshot = await locks.run(diskId, () => snapshotDisk(this.#context, diskId, transient));
    try {
      return await this.#name(image, snapshot);
    } finally {
      await deleteSnapshot(pool, snapshot.id);
      pool.checkpoint('take-image/source-released');
      this.#onNamesGone();
    }
  }
}
