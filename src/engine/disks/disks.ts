import { extendAllocated } from '../../host/fallocate.ts';
import { LaminaError } from '../../lib/errors.ts';
import {
  assertSameDisk,
  chooseSize,
  createDisk,
  isWithin,
  type SizeRange,
  type SourceContent,
} from '../../store/create-disk.ts';
import { deleteDisk, deleteSnapshot } from '../../store/delete.ts';
import { assertGrowsLive, followGrowth, growDisk } from '../../store/grow-disk.ts';
import { diskIdOf, snapshotIdOf, transientSnapshotId } from '../../store/ids.ts';
import type {
  DiskId,
  DiskOptions,
  DiskRecord,
  DiskSource,
  LayerRecord,
  SnapshotId,
  SnapshotRecord,
} from '../../store/records.ts';
import { settleSnapshots } from '../../store/recover.ts';
import { attachRequest, type DiskContext, isThick } from './disk-context.ts';
import { assertNobodyWrites, findLive } from './live-disk.ts';
import { snapshotDisk } from './snapshot-disk.ts';

export interface CreateRequest {
  name: string;
  size: SizeRange;
  options: DiskOptions;
  source: DiskSource | null;
  /** What the source is, where that is not a record of this pool but was brought here; the caller keeps its layer pinned. */
  content?: SourceContent;
  /** Told which file is written, for those who want to say how far it is. */
  onBuild?: (file: string) => void;
}

/**
 * What is asked of the disks and snapshots of one pool, attached or not. Every operation holds the lock of its disk;
 * whether something is attached is asked of kernel and supervisor each time, never remembered.
 */
export class Disks {
  readonly #context: DiskContext;
  readonly #onNamesGone: () => void;

  /** @param onNamesGone called when layers may have lost their names, and can be merged */
  constructor(context: DiskContext, onNamesGone: () => void) {
    this.#context = context;
    this.#onNamesGone = onNamesGone;
  }

  /** Makes a disk, or finds the one an earlier call made. @throws LaminaError `name-taken`, `size-out-of-range`, `pool-full`, `disk-not-found`, `snapshot-not-found`, `image-not-found` */
  async create(request: CreateRequest): Promise<DiskRecord> {
    const { pool, locks } = this.#context;
    const id = diskIdOf(request.name);
    return locks.run(id, async () => {
      const existing = pool.disks.get(id);
      if (existing) {
        assertSameDisk(existing, request.size, request.options, request.source);
        return existing;
      }
      if (request.content) return this.#createFrom(id, request, request.content);
      switch (request.source?.kind) {
        case undefined:
          return this.#createBlank(id, request);
        case 'snapshot':
          return this.#createFrom(id, request, this.snapshot(request.source.id));
        case 'image':
          return this.#createFrom(id, request, pool.image(request.source.id));
        case 'disk':
          return this.#clone(id, request, request.source.id);
      }
    });
  }

  /** Idempotent. @throws LaminaError `disk-in-use` while it is attached */
  async delete(diskId: string): Promise<void> {
    const { pool, attacher, locks } = this.#context;
    await locks.run(diskId, async () => {
      const disk = pool.disks.get(diskId as DiskId);
      if (!disk) return;
      const attachment = await attacher.find(attachRequest(pool, disk));
      if (attachment?.device) {
        throw new LaminaError(
          'disk-in-use',
          `disk ${disk.id} is attached as ${attachment.device.path}: unpublish and unstage it first`,
        );
      }
      if (attachment) await attacher.detach(attachRequest(pool, disk));
      else await assertNobodyWrites(pool, disk);
      pool.markDetached(disk.id);
      await settleSnapshots(pool, disk.id, null);
      await deleteDisk(pool, disk.id);
    });
    this.#onNamesGone();
  }

  /** Grows a disk, attached or not, to at least the required size. The device follows when the node expands it. */
  async grow(diskId: string, range: SizeRange): Promise<DiskRecord> {
    const { pool, locks, space } = this.#context;
    pool.disk(diskId);
    return locks.run(diskId, async () => {
      const disk = pool.disk(diskId);
      if (isWithin(disk.sizeBytes, range)) return disk;
      const live = await findLive(this.#context, disk);
      await settleSnapshots(pool, disk.id, live);
      const settled = await followGrowth(pool, disk.id);
      if (isWithin(settled.sizeBytes, range)) return settled;
      const sizeBytes = chooseSize(range, settled.sizeBytes, 'volume');
      const daemon = live?.switchable ?? false;
      if (daemon) assertGrowsLive(settled, pool.layer(settled.head));
      const preallocation = isThick(pool, settled) ? settled.options.preallocation : 'off';
      const growLive = daemon ? (head: LayerRecord) => this.#growLive(settled, head, sizeBytes) : null;
      return space.admit(sizeBytes - settled.sizeBytes, preallocation, () =>
        growDisk(pool, settled, sizeBytes, growLive),
      );
    });
  }

  async modify(diskId: string, change: { liveSnapshots?: boolean }): Promise<DiskRecord> {
    const { pool, locks } = this.#context;
    pool.disk(diskId);
    return locks.run(diskId, async () => {
      const disk = pool.disk(diskId);
      const changed = { ...disk, options: { ...disk.options, ...change } };
      await pool.putDisk(changed);
      return changed;
    });
  }

  /** Takes a snapshot, or finds the one of that name. @throws LaminaError `name-taken`, `disk-not-found`, `live-snapshot-unsupported`, `pool-full` */
  async createSnapshot(request: { name: string; diskId: string }): Promise<SnapshotRecord> {
    const { pool, locks } = this.#context;
    const id = snapshotIdOf(request.name);
    return locks.run(`snapshot:${id}`, async () => {
      const existing = pool.snapshots.get(id);
      if (existing && existing.disk !== request.diskId) {
        throw new LaminaError('name-taken', `a snapshot named ${request.name} exists, of disk ${existing.disk}`);
      }
      if (existing?.state === 'ready') return existing;
      pool.disk(request.diskId);
      return locks.run(request.diskId, () =>
        snapshotDisk(this.#context, request.diskId, { id, name: request.name, transient: false }),
      );
    });
  }

  /** Idempotent. */
  async deleteSnapshot(snapshotId: string): Promise<void> {
    const { pool, locks } = this.#context;
    const id = snapshotId as SnapshotId;
    const snapshot = pool.snapshots.get(id);
    if (!snapshot || snapshot.transient) return;
    await locks.run(`snapshot:${id}`, () =>
      locks.run(snapshot.disk, async () => {
        // Forgotten before its disk has left its layer, the next snapshot would be taken of a layer that is still written to.
        if (pool.snapshots.get(id)?.state === 'pending') await this.#settle(snapshot.disk);
        await deleteSnapshot(pool, id);
      }),
    );
    this.#onNamesGone();
  }

  /** Ready snapshots only. @throws LaminaError `snapshot-not-found` */
  snapshot(snapshotId: string): SnapshotRecord {
    const record = this.#context.pool.snapshot(snapshotId);
    if (record.transient || record.state !== 'ready') {
      throw new LaminaError('snapshot-not-found', `snapshot ${snapshotId} is not ready`);
    }
    return record;
  }

  async #settle(diskId: DiskId): Promise<void> {
    const { pool } = this.#context;
    const disk = pool.disks.get(diskId);
    await settleSnapshots(pool, diskId, disk ? await findLive(this.#context, disk) : null);
  }

  async #createBlank(id: DiskId, { name, size, options, onBuild }: CreateRequest): Promise<DiskRecord> {
    const { pool, space } = this.#context;
    const sizeBytes = chooseSize(size, 0);
    const request = { id, name, sizeBytes, options, source: null, onBuild };
    return space.admit(sizeBytes, options.preallocation, () => createDisk(pool, request, null));
  }

  async #createFrom(
    id: DiskId,
    { name, size, options, source }: CreateRequest,
    content: SourceContent,
  ): Promise<DiskRecord> {
    const { pool, space } = this.#context;
    const sizeBytes = chooseSize(size, content.sizeBytes);
    const request = { id, name, sizeBytes, options, source };
    // It shares the source's blocks, so it takes nothing at once, whatever the preallocation of blank disks.
    return pool.withPins([content.layer], () =>
      space.admit(sizeBytes, 'off', () => createDisk(pool, request, content)),
    );
  }

  /** A clone starts from a snapshot that only lives as long as this takes. */
  async #clone(id: DiskId, request: CreateRequest, sourceId: string): Promise<DiskRecord> {
    const { pool, locks } = this.#context;
    pool.disk(sourceId);
    const transient = { id: transientSnapshotId(id), name: `clone ${request.name}`, transient: true };
    chooseSize(request.size, pool.disk(sourceId).sizeBytes);
    const snapshot = await locks.run(sourceId, () => snapshotDisk(this.#context, sourceId, transient));
    try {
      return await this.#createFrom(id, request, snapshot);
    } finally {
      await deleteSnapshot(pool, snapshot.id);
      pool.checkpoint('create-disk/source-released');
      this.#onNamesGone();
    }
  }

  async #growLive(disk: DiskRecord, head: LayerRecord, sizeBytes: number): Promise<void> {
    const { pool, attacher } = this.#context;
    if (head.format === 'raw' && isThick(pool, disk)) {
      await extendAllocated(pool.layout.layerData(head.id, 'raw'), head.virtualSizeBytes, sizeBytes);
    }
    await attacher.resize(attachRequest(pool, disk), sizeBytes);
  }
}
