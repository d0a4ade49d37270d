import { isUnwrittenQcow2 } from '../qemu/qcow2-header.ts';
import { LaminaError } from '../lib/errors.ts';
import { overlayLayer, reflinkLayer, withNewLayer } from './layers.ts';
import type { Pool } from './pool.ts';
import {
  type ChainLayer,
  type DiskRecord,
  type LayerId,
  recordVersion,
  type SnapshotId,
  type SnapshotRecord,
} from './records.ts';

/** What the store needs of a disk that is attached while it is snapshotted. Implemented by the engine. */
export interface LiveDisk {
  /** Whether a daemon serves it, which can switch to an overlay; a plain loop device cannot. */
  readonly switchable: boolean;
  /** The layer it writes to at this moment. */
  activeLayer(): Promise<LayerId>;
  /** Opens the overlay in the daemon, so that the switch is short. */
  prepare(overlay: ChainLayer): Promise<void>;
  /** Writes to `overlay` from here on, with the file system frozen for the moment of the switch. */
  switchTo(overlay: ChainLayer): Promise<void>;
  /** Runs `work` while the disk's file system is frozen. */
  whileFrozen(work: () => Promise<void>): Promise<void>;
}

export interface SnapshotRequest {
  id: SnapshotId;
  name: string;
  transient: boolean;
}

/**
 * Takes a snapshot of `disk`, whose lock the caller holds; `live` is null while it is detached.
 * @throws LaminaError `live-snapshot-unsupported`, `chain-too-long`, `pool-full`
 */
export async function takeSnapshot(
  pool: Pool,
  disk: DiskRecord,
  request: SnapshotRequest,
  live: LiveDisk | null,
): Promise<SnapshotRecord> {
  const head = pool.layer(disk.head);
  if (head.format === 'raw' && pool.reflink) return copyRaw(pool, disk, request, live);
  if (live && !live.switchable) {
    throw new LaminaError(
      'live-snapshot-unsupported',
      `disk ${disk.id} is raw and attached by a plain loop device, and the pool's file system cannot share extents: detach it first, or use the parameter liveSnapshots: "true", which attaches raw disks through the engine`,
    );
  }
  if (!live && head.parent && (await readsAsItsParent(pool, head.id))) {
    // Nothing was written since the last snapshot: the same layer gets one more name, and the chain stays as it is.
    return pool.withPins([head.parent], () => recordReady(pool, disk, request, head.parent as LayerId));
  }
  if (live) await followHead(pool, disk, live);
  const snapshot = await switchHead(pool, disk, request, live);
  return finishSnapshot(pool, snapshot, live);
}

async function readsAsItsParent(pool: Pool, id: LayerId): Promise<boolean> {
  const head = pool.chainLayer(id);
  const parent = pool.layer(id).parent;
  if (!parent || head.format !== 'qcow2') return false;
  return pool.layer(parent).virtualSizeBytes === head.virtualSizeBytes && (await isUnwrittenQcow2(head.path));
}

/** Up to where the disk's record names the overlay: from there on the snapshot is finished, before it is undone. */
async function switchHead(
  pool: Pool,
  disk: DiskRecord,
  request: SnapshotRequest,
  live: LiveDisk | null,
): Promise<SnapshotRecord> {
  const lower = pool.chainLayer(disk.head);
  const layer = overlayLayer(lower, disk.sizeBytes, disk.options.clusterSizeBytes);
  return withNewLayer(pool, layer, async (overlay) => {
    pool.checkpoint('take-snapshot/overlay-published');
    await live?.prepare(overlay);
    pool.checkpoint('take-snapshot/overlay-prepared');
    const snapshot = snapshotRecord(disk, request, lower.id, 'pending');
    await pool.putSnapshot(snapshot);
    pool.checkpoint('take-snapshot/snapshot-recorded');
    try {
      await pool.putDisk({ ...disk, head: overlay.id });
    } catch (error) {
      // Once the disk's record names the overlay, the snapshot is finished by the next operation.
      if (pool.disk(disk.id).head !== overlay.id) await pool.removeSnapshot(snapshot.id);
      throw error;
    }
    pool.checkpoint('take-snapshot/head-recorded');
    return snapshot;
  });
}

/**
 * Brings a pending snapshot to its end, after a crash or a failure too. Idempotent. While the disk's record still
 * names the snapshot's own layer, nothing was switched, and the snapshot is dropped: nobody was told of it.
 *
 * @returns the ready snapshot.
 * @throws LaminaError `snapshot-not-found` where it was dropped
 */
export async function finishSnapshot(
  pool: Pool,
  snapshot: SnapshotRecord,
  live: LiveDisk | null,
): Promise<SnapshotRecord> {
  const disk = pool.disks.get(snapshot.disk);
  if (disk?.head === snapshot.layer) {
    await pool.removeSnapshot(snapshot.id);
    throw new LaminaError('snapshot-not-found', `snapshot ${snapshot.id} was not taken: the disk was not switched`);
  }
  if (disk && live) await followHead(pool, disk, live);
  pool.checkpoint('take-snapshot/head-switched');
  await pool.sealLayer(snapshot.layer);
  pool.checkpoint('take-snapshot/layer-sealed');
  const ready: SnapshotRecord = { ...snapshot, state: 'ready', createdAt: new Date().toISOString() };
  await pool.putSnapshot(ready);
  pool.checkpoint('take-snapshot/snapshot-ready');
  return ready;
}

/**
 * Has the daemon write to the layer that the disk's record names. It lags behind that only until a snapshot is finished;
 * what it writes in between belongs to no layer that is sealed.
 */
async function followHead(pool: Pool, { head }: DiskRecord, live: LiveDisk): Promise<void> {
  if ((await live.activeLayer()) === head) return;
  const overlay = pool.chainLayer(head);
  await live.prepare(overlay);
  await live.switchTo(overlay);
}

/** On a pool with reflink: a raw copy that shares extents becomes the snapshot, and the disk stays raw as it is. */
async function copyRaw(
  pool: Pool,
  disk: DiskRecord,
  request: SnapshotRequest,
  live: LiveDisk | null,
): Promise<SnapshotRecord> {
  const layer = reflinkLayer(pool.chainLayer(disk.head), disk.sizeBytes, true);
  layer.onBuilt = () => pool.checkpoint('copy-snapshot/layer-copied');
  const { build } = layer;
  if (live) layer.build = (file) => live.whileFrozen(() => build(file));
  return withNewLayer(pool, layer, async (copy) => {
    pool.checkpoint('copy-snapshot/layer-published');
    const ready = await recordReady(pool, disk, request, copy.id);
    pool.checkpoint('copy-snapshot/snapshot-recorded');
    return ready;
  });
}

async function recordReady(
  pool: Pool,
  disk: DiskRecord,
  request: SnapshotRequest,
  layer: LayerId,
): Promise<SnapshotRecord> {
  const record = snapshotRecord(disk, request, layer, 'ready');
  await pool.putSnapshot(record);
  return record;
}

function snapshotRecord(
  disk: DiskRecord,
  request: SnapshotRequest,
  layer: LayerId,
  state: SnapshotRecord['state'],
): SnapshotRecord {
  return {
    version: recordVersion,
    id: request.id,
    name: request.name,
    layer,
    disk: disk.id,
    sizeBytes: disk.sizeBytes,
    filesystem: disk.filesystem,
    state,
    transient: request.transient,
    createdAt: new Date().toISOString(),
  };
}
