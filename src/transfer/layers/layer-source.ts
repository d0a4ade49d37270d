import { createHash } from 'node:crypto';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { errnoOf, LaminaError } from '../../lib/errors.ts';
import { parseQcow2Header, qcow2HeaderBytes } from '../../qemu/qcow2-header.ts';
import { parentInBackingPath } from '../../store/layout.ts';
import type { Pool } from '../../store/pool.ts';
import type { LayerId, LayerRecord } from '../../store/records.ts';
import {
  type ChainDescription,
  descriptionVersion,
  type LayerDescription,
  type SealedKind,
} from './chain-description.ts';

/** A sealed layer's file, held open: it stays readable whatever becomes of its name. */
export interface OpenLayer extends AsyncDisposable {
  handle: FileHandle;
  description: LayerDescription;
}

/**
 * Describes a snapshot or an image. Each layer's parent is what the header of its file says, and the `etag` names that
 * file: compaction, which replaces a file first and its record afterwards, cannot come in between.
 *
 * @throws LaminaError `snapshot-not-found`, `image-not-found`
 */
export async function describeChain(pool: Pool, kind: SealedKind, id: string): Promise<ChainDescription> {
  const { name, layer, sizeBytes, filesystem, digest } = sealedContent(pool, kind, id);
  const chain = pool.chain(layer).map((each) => each.id);
  // No layer goes away while the chain is walked, not even one that is being merged into the next.
  return pool.withPins(chain, async () => {
    const layers: LayerDescription[] = [];
    for (let next: LayerId | null = layer; next !== null; ) {
      await using opened = await openLayer(pool, next);
      layers.push(opened.description);
      next = opened.description.parent;
    }
    return { version: descriptionVersion, kind, id, name, sizeBytes, filesystem, digest, layers };
  });
}

/** What a snapshot or an image names. @throws LaminaError `snapshot-not-found`, `image-not-found` */
export function sealedContent(pool: Pool, kind: SealedKind, id: string) {
  if (kind === 'image') return pool.image(id);
  const snapshot = pool.snapshot(id);
  if (snapshot.state === 'ready' && !snapshot.transient) return { ...snapshot, digest: null };
  throw new LaminaError('snapshot-not-found', `snapshot ${id} is not ready`);
}

/** @throws LaminaError `layer-not-found` where it is not in the pool, or not sealed */
export async function openLayer(pool: Pool, id: LayerId): Promise<OpenLayer> {
  const record = pool.layers.get(id);
  if (!record?.sealed) throw notFound(pool, id);
  const handle = await open(pool.layout.layerData(id, record.format), constants.O_RDONLY).catch((error: unknown) => {
    throw errnoOf(error) === 'ENOENT' ? notFound(pool, id) : error;
  });
  try {
    const description = await describe(handle, record);
    return { handle, description, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function describe(handle: FileHandle, record: LayerRecord): Promise<LayerDescription> {
  const { ino, mtimeNs, size, blocks } = await handle.stat({ bigint: true });
  const parent = record.format === 'raw' ? null : await parentOf(handle, record);
  const { id, format, virtualSizeBytes, createdAt } = record;
  const identity = [id, parent, ino, mtimeNs, size].join(' ');
  return {
    id,
    parent,
    format,
    virtualSizeBytes,
    fileSizeBytes: Number(size),
    allocatedBytes: Number(blocks) * 512,
    etag: createHash('sha256').update(identity).digest('hex').slice(0, 32),
    createdAt,
  };
}

async function parentOf(handle: FileHandle, { id }: LayerRecord): Promise<LayerId | null> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(qcow2HeaderBytes), 0, qcow2HeaderBytes, 0);
  const { backingFile } = parseQcow2Header(buffer.subarray(0, bytesRead), `layer ${id}`);
  if (backingFile === null) return null;
  const parent = parentInBackingPath(backingFile);
  if (parent) return parent;
  throw new LaminaError(
    'layer-corrupt',
    `layer ${id} names the backing file ${backingFile}, which is none of the pool`,
  );
}

function notFound(pool: Pool, id: LayerId): LaminaError {
  return new LaminaError('layer-not-found', `there is no sealed layer ${id} in the pool ${pool.layout.root}`);
}
