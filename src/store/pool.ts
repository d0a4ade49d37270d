import { access, chmod, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Checkpoint } from '../lib/checkpoint.ts';
import { ifErrno, LaminaError } from '../lib/errors.ts';
import { syncDirectory, syncFile, writeRecord } from '../lib/fs-records.ts';
import { KeyedLock } from '../lib/keyed-lock.ts';
import { chainIds, namedLayers, unreferencedLayers } from './graph.ts';
import { dataName, type PoolLayout } from './layout.ts';
import { RecordWriter } from './record-writer.ts';
import type {
  ChainLayer,
  DiskId,
  DiskRecord,
  ImageId,
  ImageRecord,
  LayerId,
  LayerRecord,
  PoolRecord,
  SnapshotId,
  SnapshotRecord,
} from './records.ts';
import type { StoreStep } from './steps.ts';

export interface PoolContents {
  pool: PoolRecord;
  layers: Map<LayerId, LayerRecord>;
  disks: Map<DiskId, DiskRecord>;
  snapshots: Map<SnapshotId, SnapshotRecord>;
  images: Map<ImageId, ImageRecord>;
}

/**
 * The records of a pool that this process holds the lock of: in memory for reading, on disk for good. Operations are
 * functions of their own (create-disk.ts, take-snapshot.ts, …); here is only what keeps records and files together.
 */
export class Pool {
  readonly layout: PoolLayout;
  readonly id: string;
  /** Whether files can share extents (FICLONE); found by trying. */
  readonly reflink: boolean;
  readonly checkpoint: Checkpoint<StoreStep>;
  readonly #layers: Map<LayerId, LayerRecord>;
  readonly #disks: Map<DiskId, DiskRecord>;
  readonly #snapshots: Map<SnapshotId, SnapshotRecord>;
  readonly #images: Map<ImageId, ImageRecord>;
  readonly #records: RecordWriter;
  /** Layers that an operation in progress relies on, before a record names them. */
  readonly #pins = new Map<LayerId, number>();
  /** Disks whose layers may be open in a daemon or a loop device. */
  readonly #attached = new Set<DiskId>();
  readonly #exchange = new KeyedLock();

  constructor(layout: PoolLayout, contents: PoolContents, reflink: boolean, checkpoint: Checkpoint<StoreStep>) {
    this.layout = layout;
    this.id = contents.pool.id;
    this.reflink = reflink;
    this.checkpoint = checkpoint;
    this.#layers = contents.layers;
    this.#disks = contents.disks;
    this.#snapshots = contents.snapshots;
    this.#images = contents.images;
    this.#records = new RecordWriter(layout);
  }

  get layers(): ReadonlyMap<LayerId, LayerRecord> {
    return this.#layers;
  }
  get disks(): ReadonlyMap<DiskId, DiskRecord> {
    return this.#disks;
  }
  get snapshots(): ReadonlyMap<SnapshotId, SnapshotRecord> {
    return this.#snapshots;
  }
  get images(): ReadonlyMap<ImageId, ImageRecord> {
    return this.#images;
  }

  /** @throws LaminaError `disk-not-found` */
  disk(id: string): DiskRecord {
    const record = this.#disks.get(id as DiskId);
    if (!record) throw new LaminaError('disk-not-found', `there is no disk ${id} in the pool ${this.layout.root}`);
    return record;
  }

  /** @throws LaminaError `snapshot-not-found` */
  snapshot(id: string): SnapshotRecord {
    const record = this.#snapshots.get(id as SnapshotId);
    if (!record) {
      throw new LaminaError('snapshot-not-found', `there is no snapshot ${id} in the pool ${this.layout.root}`);
    }
    return record;
  }

  /** @throws LaminaError `image-not-found` */
  image(id: string): ImageRecord {
    const record = this.#images.get(id as ImageId);
    if (!record) throw new LaminaError('image-not-found', `there is no image ${id} in the pool ${this.layout.root}`);
    return record;
  }

  /** @throws LaminaError `graph-corrupt`: open() has checked that every name leads to a layer */
  layer(id: LayerId): LayerRecord {
    const record = this.#layers.get(id);
    if (!record) throw new LaminaError('graph-corrupt', `layer ${id} is named but not in the pool ${this.layout.root}`);
    return record;
  }

  chainLayer(id: LayerId): ChainLayer {
    const { format, virtualSizeBytes } = this.layer(id);
    return { id, format, path: this.layout.layerData(id, format), virtualSizeBytes };
  }

  /** The chain below and with `head`, head first. */
  chain(head: LayerId): ChainLayer[] {
    return chainIds(this.#layers, head).map((id) => this.chainLayer(id));
  }

  async putDisk(record: DiskRecord): Promise<void> {
    await this.#records.write(this.layout.disk(record.id), record, () => this.#disks.set(record.id, record));
  }

  async removeDisk(id: DiskId): Promise<void> {
    await this.#records.unlink(this.layout.disk(id));
    this.#disks.delete(id);
  }

  async putSnapshot(record: SnapshotRecord): Promise<void> {
    await this.#records.write(this.layout.snapshot(record.id), record, () => this.#snapshots.set(record.id, record));
  }

  async removeSnapshot(id: SnapshotId): Promise<void> {
    await this.#records.unlink(this.layout.snapshot(id));
    this.#snapshots.delete(id);
  }

  async putImage(record: ImageRecord): Promise<void> {
    await this.#records.write(this.layout.image(record.id), record, () => this.#images.set(record.id, record));
  }

  async removeImage(id: ImageId): Promise<void> {
    await this.#records.unlink(this.layout.image(id));
    this.#images.delete(id);
  }

  async putLayer(record: LayerRecord): Promise<void> {
    await this.#records.write(this.layout.layerRecord(record.id), record, () => this.#layers.set(record.id, record));
  }

  /** Where a new layer is built: nothing under tmp/ survives a restart. */
  buildDirectory(id: LayerId): string {
    return path.join(this.layout.tmp, id);
  }

  /** Puts a layer built in buildDirectory into place, whole or not at all. The caller holds a pin on it. */
  async publishLayer(record: LayerRecord): Promise<void> {
    const directory = this.buildDirectory(record.id);
    const data = path.join(directory, dataName(record.format));
    await chmod(data, record.sealed ? 0o444 : 0o600);
    await syncFile(data);
    await writeRecord(path.join(directory, 'layer.json'), record, this.layout.tmp);
    await rename(directory, this.layout.layer(record.id));
    await syncDirectory(this.layout.layers);
    this.#layers.set(record.id, record);
  }

  /** Makes a layer unchangeable. Idempotent. */
  async sealLayer(id: LayerId): Promise<void> {
    const record = this.layer(id);
    if (record.sealed) return;
    const data = this.layout.layerData(id, record.format);
    await chmod(data, 0o444);
    await syncFile(data);
    await this.putLayer({ ...record, sealed: true });
  }

  /** Keeps layers from being collected while `work` runs. */
  async withPins<T>(ids: readonly LayerId[], work: () => Promise<T>): Promise<T> {
    const unpin = this.pin(ids);
    try {
      return await work();
    } finally {
      unpin();
    }
  }

  /** Keeps layers from being collected until what it returns is called. */
  pin(ids: readonly LayerId[]): () => void {
    for (const id of ids) this.#pins.set(id, (this.#pins.get(id) ?? 0) + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      for (const id of ids) {
        const count = (this.#pins.get(id) ?? 1) - 1;
        if (count > 0) this.#pins.set(id, count);
        else this.#pins.delete(id);
      }
    };
  }

  /** Keeps layers from being collected as long as this process lives. */
  pinForGood(ids: readonly LayerId[]): void {
    for (const id of ids) this.#pins.set(id, Number.POSITIVE_INFINITY);
  }

  /** Layers that are named, and those pinned. */
  roots(): LayerId[] {
    return [...namedLayers(this), ...this.#pins.keys()];
  }

  /** Says that a disk's layers are about to be opened. Waits while layers are being exchanged. */
  async markAttached(id: DiskId): Promise<void> {
    await this.#exchange.run('', async () => {
      this.#attached.add(id);
    });
  }
  markDetached(id: DiskId): void {
    this.#attached.delete(id);
  }
  isAttached(id: DiskId): boolean {
    return this.#attached.has(id);
  }
  attachedDisks(): DiskId[] {
    return [...this.#attached];
  }

  /** Runs `work`, which exchanges layer files; nobody begins to open the layers of a disk meanwhile. */
  async whileNothingOpens<T>(work: () => Promise<T>): Promise<T> {
    return this.#exchange.run('', work);
  }

  /** Attached disks that may have the layer open. */
  attachedWith(id: LayerId): DiskId[] {
    return [...this.#attached].filter((diskId) => {
      const disk = this.#disks.get(diskId);
      return disk !== undefined && chainIds(this.#layers, disk.head).includes(id);
    });
  }

  /** Removes the layers that nothing leads to. Works on a full disk. */
  async collect(): Promise<void> {
    // Forgotten before the first await, so that nobody can start to rely on one of them.
    const dead = unreferencedLayers(this.#layers, this.roots());
    for (const id of dead) this.#layers.delete(id);
    for (const id of dead) {
      const grave = path.join(this.layout.tmp, `dead-${id}`);
      await this.#records.freeing(() => rename(this.layout.layer(id), grave));
      await syncDirectory(this.layout.layers);
      this.checkpoint('collect/layer-withdrawn');
      await rm(grave, { recursive: true });
      this.checkpoint('collect/layer-removed');
    }
  }
}

/** Names in a directory, or none where there is no such directory. */
export async function listNames(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(ifErrno('ENOENT', []))).sort();
}

export async function exists(file: string): Promise<boolean> {
  return access(file).then(() => true, ifErrno('ENOENT', false));
}
