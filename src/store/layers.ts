import { chmod, constants, copyFile, mkdir, rm, truncate } from 'node:fs/promises';
import path from 'node:path';
import { createImage, createOverlay } from '../qemu/qemu-img.ts';
import { newLayerId } from './ids.ts';
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

/** A lowest layer without content. */
export function blankLayer(sizeBytes: number, options: DiskOptions): NewLayer {
  const { format, preallocation } = options;
  const clusterSizeBytes = format === 'qcow2' ? options.clusterSizeBytes : null;
  const build: Build = (file) => createImage({ file, format, sizeBytes, preallocation, clusterSizeBytes });
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
 * Builds a layer and publishes it, and hands it to `use`, which makes a record name it. Until then it is pinned; where
 * `use` fails before, it is collected.
 */
export async function withNewLayer<T>(pool: Pool, layer: NewLayer, use: (layer: ChainLayer) => Promise<T>): Promise<T> {
  const id = newLayerId();
  try {
    return await pool.withPins([id], () => buildAndUse(pool, id, layer, use));
  } catch (error) {
    await pool.collect();
    throw error;
  }
}

async function buildAndUse<T>(
  pool: Pool,
  id: LayerId,
  layer: NewLayer,
  use: (layer: ChainLayer) => Promise<T>,
): Promise<T> {
  const directory = pool.buildDirectory(id);
  await mkdir(directory, { mode: 0o700 });
  try {
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
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  return use(pool.chainLayer(id));
}
