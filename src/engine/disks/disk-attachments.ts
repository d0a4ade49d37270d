import { MiB } from '../../lib/bytes.ts';
import { chainDataExtents, type Extent } from '../../qemu/data-extents.ts';
import { expectWrites, isUntouched } from '../../store/layers.ts';
import type { DiskRecord } from '../../store/records.ts';
import { settleSnapshots } from '../../store/recover.ts';
import type { Attachment, BlockDevice } from '../attach/attachment.ts';
import { assertNotCutOff } from '../../store/inspect-layer.ts';
import { attachRequest, type DiskContext, isThick } from './disk-context.ts';
import { findLive } from './live-disk.ts';

/** Makes disks block devices of this node and back, each under its lock. All methods throw `disk-not-found`. */
export class DiskAttachments {
  readonly #context: DiskContext;
  readonly #onDetached: () => void;

  /** @param onDetached called when a disk's layers are free to be merged */
  constructor(context: DiskContext, onDetached: () => void) {
    this.#context = context;
    this.#onDetached = onDetached;
  }

  disk(diskId: string): DiskRecord {
    return this.#context.pool.disk(diskId);
  }

  isThick(diskId: string): boolean {
    return isThick(this.#context.pool, this.disk(diskId));
  }

  /** Idempotent. @throws LaminaError `engine-dead` where its daemon died: detach first; `layer-corrupt` where a file is cut off */
  async attach(diskId: string): Promise<BlockDevice> {
    const { pool, attacher, locks } = this.#context;
    this.disk(diskId);
    return locks.run(diskId, async () => {
      const { id } = this.disk(diskId);
      const live = await findLive(this.#context, this.disk(diskId));
      await settleSnapshots(pool, id, live);
      await pool.markAttached(id);
      try {
        if (!live) await this.#assertWhole(this.disk(diskId));
        return await attacher.attach(attachRequest(pool, this.disk(diskId)));
      } catch (error) {
        if (!(await this.#find(this.disk(diskId)))) {
          pool.markDetached(id);
          // What was given up meanwhile, so that it could be attached, may be what it takes.
          this.#onDetached();
        }
        throw error;
      }
    });
  }

  /** Idempotent. @throws LaminaError `disk-in-use` while it is open */
  async detach(diskId: string): Promise<void> {
    const { pool, attacher, locks } = this.#context;
    await locks.run(diskId, async () => {
      const disk = this.disk(diskId);
      await attacher.detach(attachRequest(pool, disk));
      pool.markDetached(disk.id);
    });
    this.#onDetached();
  }

  async attachment(diskId: string): Promise<Attachment | null> {
    return this.#find(this.disk(diskId));
  }

  /** Makes the device as big as the disk's record says. */
  async growDevice(diskId: string): Promise<void> {
    const { pool, attacher, locks } = this.#context;
    await locks.run(diskId, async () => {
      const disk = this.disk(diskId);
      await attacher.resize(attachRequest(pool, disk), disk.sizeBytes);
    });
  }

  async recordFilesystem(diskId: string, filesystem: DiskRecord['filesystem']): Promise<void> {
    const { pool, locks } = this.#context;
    await locks.run(diskId, () => pool.putDisk({ ...this.disk(diskId), filesystem }));
  }

  /** To be called before somebody who makes no file system may write to it. */
  async expectWrites(diskId: string): Promise<void> {
    await expectWrites(this.#context.pool.chain(this.disk(diskId).head));
  }

  /** The parts that may hold anything but zeroes, of what the device has written out. Nobody has to wait for the lock. */
  async *writtenExtents(diskId: string, signal: AbortSignal): AsyncGenerator<Extent> {
    const { pool } = this.#context;
    const chain = pool.chain(this.disk(diskId).head);
    if (await isUntouched(chain)) return;
    // What is merged away while its files are opened could not be found.
    const unpin = pool.pin(chain.map(({ id }) => id));
    try {
      yield* chainDataExtents(chain, { leastHoleBytes: MiB, signal });
    } finally {
      unpin();
    }
  }

  /** Before anybody reads of it, and writes what he concludes of that. */
  async #assertWhole({ head }: DiskRecord): Promise<void> {
    for (const layer of this.#context.pool.chain(head)) await assertNotCutOff(layer.path, layer);
  }

  #find(disk: DiskRecord): Promise<Attachment | null> {
    return this.#context.attacher.find(attachRequest(this.#context.pool, disk));
  }
}
