import { chmod, constants, copyFile, mkdir, rm, stat, truncate, utimes } from 'node:fs/promises';
import path from 'node:path';
import { LaminaError } from '../lib/errors.ts';
import { syncFile } from '../lib/fs-records.ts';
import { readQcow2Header } from '../qemu/qcow2-header.ts';
import { createImage, createOverlay } from '../qemu/qemu-img.ts';
import { newLayerId } from './ids.ts';
import { assertOwnHeader, namesBacking } from './inspect-layer.ts';
import { backingPath, dataName } from './layout.ts';
import type { Pool } from './pool.ts';
import { type ChainLayer, type DiskOptions, type LayerId, type LayerRecord, recordVersion } from './records.ts';

/** How a new layer's file is made in the pool's tmp directory. */
type Build = (file: string) => Promise<void>;

export interface NewLayer {
  format: LayerRecord['format'];
  parent: LayerId | null;
  sizeBytes: number;
  sealed: boolean;
  build: Build;
  /** Called when the file is made, before the layer is published. */
  onBuilt?: () => void;
}

/**
 * The time of last change of a file full of zeroes, until somebody writes to it. Those cannot be told from data but by
 * reading all of it.
 */
const untouchedSeconds = 1;

/** Whether nobody ever wrote to a disk that was written full of zeroes when it was made. */
export async function isUntouched([head, ...below]: readonly ChainLayer[]): Promise<boolean> {
  if (!head || below.length > 0) return false;
  return (await stat(head.path)).mtimeMs === untouchedSeconds * 1000;
}

/**
 * Has a disk count as written to from now on, durably: after a power cut what was written may be there, and the time of its
 * change not.
 */
export async function expectWrites(chain: readonly ChainLayer[]): Promise<void> {
  const [head] = chain;
  if (!head || !(await isUntouched(chain))) return;
  const now = new Date();
  await utimes(head.path, now, now);
  await syncFile(head.path);
}

/** A lowest layer without content. */
export function blankLayer(sizeBytes: number, options: DiskOptions): NewLayer {
  const { format, preallocation } = options;
  const clusterSizeBytes = format === 'qcow2' ? options.clusterSizeBytes : null;
  const build: Build = async (file) => {
    await createImage({ file, format, sizeBytes, preallocation, clusterSizeBytes });
    if (preallocation === 'full') await utimes(file, untouchedSeconds, untouchedSeconds);
  };
  return { format, parent: null, sizeBytes, sealed: false, build };
}

/** An empty overlay on `backing`, at least as big as that. */
export function overlayLayer(backing: ChainLayer, sizeBytes: number, clusterSizeBytes: number | null): NewLayer {
  const backingFile = backingPath(backing.id, backing.format);
  const build: Build = (file) =>
    createOverlay({ file, sizeBytes, backingFile, backingFormat: backing.format, clusterSizeBytes });
  return { format: 'qcow2', parent: backing.id, sizeBytes, sealed: false, build };
}

/** A copy of a raw layer that shares its extents (FICLONE), grown to `sizeBytes`. Needs a pool with reflink. */
export function reflinkLayer(source: ChainLayer, sizeBytes: number, sealed: boolean): NewLayer {
  const build: Build = async (file) => {
    await copyFile(source.path, file, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    if (sizeBytes > source.virtualSizeBytes) {
      await chmod(file, 0o600);
      await truncate(file, sizeBytes);
    }
  };
  return { format: 'raw', parent: null, sizeBytes, sealed, build };
}

/**
 * The time that a storage daemon takes to start grows faster than the square of its layers: 2 s for 128 and 17 s for 256 on a busy
 * machine, and beyond 300 it is longer than anybody waits. A disk with more could not be attached any more.
 */
export const maxChainLayers = 256;

/**
 * Builds a layer and publishes it, and hands it to `use`, which makes a record name it. Until then it is pinned; where
 * `use` fails before, it is collected.
 *
 * @throws LaminaError `chain-too-long`, before anything is made; what `build` and `use` throw
 */
export async function withNewLayer<T>(pool: Pool, layer: NewLayer, use: (layer: ChainLayer) => Promise<T>): Promise<T> {
  assertNotTooLong(pool, layer.parent);
  const id = newLayerId();
  try {
    return await pool.withPins([id], () => buildAndUse(pool, id, layer, use));
  } catch (error) {
    await pool.collect();
    throw error;
  }
}

function assertNotTooLong(pool: Pool, parent: LayerId | null): void {
  if (parent === null || pool.chain(parent).length < maxChainLayers) return;
  throw new LaminaError(
    'chain-too-long',
    `layer ${parent} has ${maxChainLayers} layers below and with it, and takes no other: delete snapshots: layers that nothing names any more are merged, after which it can be tried again`,
  );
}

async function buildAndUse<T>(
  pool: Pool,
  id: LayerId,
  layer: NewLayer,
  use: (layer: ChainLayer) => Promise<T>,
): Promise<T> {
  await inBuildDirectory(pool, id, async (directory) => {
    await layer.build(path.join(directory, dataName(layer.format)));
    layer.onBuilt?.();
    await pool.publishLayer({
      version: recordVersion,
      id,
      parent: layer.parent,
      format: layer.format,
      virtualSizeBytes: layer.sizeBytes,
      sealed: layer.sealed,
      createdAt: new Date().toISOString(),
    });
  });
  return use(pool.chainLayer(id));
}

async function inBuildDirectory(pool: Pool, id: LayerId, work: (directory: string) => Promise<void>): Promise<void> {
  const directory = pool.buildDirectory(id);
  await mkdir(directory, { mode: 0o700 });
  try {
    await work(directory);
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** A sealed layer of another pool, which is the same layer here: the content below and with an id never changes. */
export type ReceivedLayer = Pick<LayerRecord, 'id' | 'parent' | 'format' | 'virtualSizeBytes' | 'createdAt'>;

/**
 * Publishes a layer that was received from another node under its own id, on a parent that is here already. Nothing
 * names it afterwards: the caller holds a pin on it and on its parent until a record does. Idempotent.
 *
 * @param build puts the file there, complete and checked, as `withNewLayer` has it
 * @throws LaminaError `layer-corrupt` where the file is not that layer; `graph-corrupt` where the parent is not here
 */
export async function installLayer(pool: Pool, layer: ReceivedLayer, build: Build): Promise<ChainLayer> {
  if (pool.layers.has(layer.id)) return pool.chainLayer(layer.id);
  const parent = layer.parent === null ? null : pool.layer(layer.parent);
  if (parent && !parent.sealed) {
    throw new LaminaError(
      'graph-corrupt',
      `layer ${layer.id} cannot be put on ${parent.id}, which is still written to`,
    );
  }
  await inBuildDirectory(pool, layer.id, async (directory) => {
    const file = path.join(directory, dataName(layer.format));
    await build(file);
    await assertIsLayer(layer, parent, file);
    pool.checkpoint('install-layer/layer-received');
    await pool.publishLayer({ version: recordVersion, ...layer, sealed: true });
  });
  pool.checkpoint('install-layer/layer-published');
  return pool.chainLayer(layer.id);
}

async function assertIsLayer(layer: ReceivedLayer, parent: LayerRecord | null, file: string): Promise<void> {
  const refuse = (what: string) => new LaminaError('layer-corrupt', `layer ${layer.id} was received with ${what}`);
  if (layer.format === 'raw') {
    const { size } = await stat(file);
    if (parent || size !== layer.virtualSizeBytes) throw refuse(`${size} bytes as a raw file`);
    return;
  }
  const header = await readQcow2Header(file);
  assertOwnHeader(header, file);
  if (!namesBacking(header, parent)) throw refuse(`the backing file ${header.backingFile ?? '(none)'}`);
  if (header.virtualSizeBytes !== layer.virtualSizeBytes) throw refuse(`a size of ${header.virtualSizeBytes} bytes`);
}
