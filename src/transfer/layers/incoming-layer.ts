import { constants, type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { MiB } from '../../lib/bytes.ts';
import { ifErrno } from '../../lib/errors.ts';
import { readRecordIfAny, writeRecord } from '../../lib/fs-records.ts';
import { discardIncoming, ensureIncoming, incomingDirectory, listIncomingOf } from '../../store/incoming.ts';
import { dataName } from '../../store/layout.ts';
import type { Pool } from '../../store/pool.ts';
import { type LayerId, layerIdSchema } from '../../store/records.ts';
import type { BufferPool } from '../buffer-pool.ts';
import { type LayerDescription, layerDescriptionSchema } from './chain-description.ts';
import { type Frame, newFramePool } from './layer-frames.ts';
import { writeParts } from './written-parts.ts';

const recordVersion = 1;
const recordName = 'transfer.json';
/** What a killed process or a power cut makes us fetch again at most. */
export const commitBytes = 64 * MiB;

/** `incoming/<layer>/transfer.json`: how far a layer has come. */
const recordSchema = z.strictObject({
  version: z.literal(recordVersion),
  layer: layerDescriptionSchema,
  /** The file is as it must be up to here, even after a power cut. */
  offsetBytes: z.int().nonnegative(),
  complete: z.boolean(),
});

/** Sets layers apart from whatever else comes in: no image has a name with this sign. */
const namePrefix = 'layer_';

export async function discardLayer(pool: Pool, id: LayerId): Promise<void> {
  await discardIncoming(pool, namePrefix + id);
}

/** Layers of which something lies in `incoming`, and when something last happened to them. */
export async function listIncomingLayers(pool: Pool): Promise<{ id: LayerId; changedAt: Date }[]> {
  return listIncomingOf(pool, namePrefix, (rest) => layerIdSchema.safeParse(rest).data);
}

/** Where the file is. */
export function incomingFile(pool: Pool, { id, format }: Pick<LayerDescription, 'id' | 'format'>): string {
  return path.join(directoryOf(pool, id), dataName(format));
}

function directoryOf(pool: Pool, id: LayerId): string {
  return incomingDirectory(pool, namePrefix + id);
}

/** The file of a layer on its way into a pool. Nothing uses it before it is installed. One at a time for each layer. */
export class IncomingLayer {
  readonly #pool: Pool;
  readonly #layer: LayerDescription;
  readonly #handle: FileHandle;
  readonly #onCommitted: () => void;
  readonly #framePool = newFramePool();
  #offsetBytes: number;
  #committedBytes: number;
  #complete: boolean;
  #writing: Promise<void> = Promise.resolve();
  #committing: Promise<void> = Promise.resolve();

  /** Goes on with what is there of just this file of the layer, or begins anew. */
  static async open(pool: Pool, layer: LayerDescription, onCommitted: () => void): Promise<IncomingLayer> {
    const file = incomingFile(pool, layer);
    const found = await readIncoming(pool, layer.id);
    if (found?.layer.etag === layer.etag) {
      const handle = await open(file, constants.O_RDWR).catch(ifErrno('ENOENT', null));
      // What was written behind the recorded offset may be half there.
      if (handle && !found.complete) await handle.truncate(found.offsetBytes);
      if (handle) return new IncomingLayer(pool, found, handle, onCommitted);
    }
    await discardLayer(pool, layer.id);
    await ensureIncoming(pool, namePrefix + layer.id);
    const handle = await open(file, 'wx+', 0o600);
    return new IncomingLayer(pool, { layer, offsetBytes: 0, complete: false }, handle, onCommitted);
  }

  private constructor(
    pool: Pool,
    { layer, offsetBytes, complete }: Pick<z.infer<typeof recordSchema>, 'layer' | 'offsetBytes' | 'complete'>,
    handle: FileHandle,
    onCommitted: () => void,
  ) {
    this.#pool = pool;
    this.#layer = layer;
    this.#handle = handle;
    this.#onCommitted = onCommitted;
    this.#offsetBytes = offsetBytes;
    this.#committedBytes = offsetBytes;
    this.#complete = complete;
  }

  /** What the frames are to be in that are written. */
  get framePool(): BufferPool {
    return this.#framePool;
  }
  /** Where the next data goes at the earliest. */
  get offsetBytes(): number {
    return this.#offsetBytes;
  }
  get complete(): boolean {
    return this.#complete;
  }
  async allocatedBytes(): Promise<number> {
    return (await this.#handle.stat()).blocks * 512;
  }

  /**
   * Takes the next data; it is written while the data after it comes in. Failures may be told at the next call.
   * @returns whether it was time to record how far it is
   */
  async write(frame: Frame): Promise<boolean> {
    await this.#writing;
    this.#writing = this.#writeParts(frame);
    this.#writing.catch(() => {});
    this.#offsetBytes = frame.offset + frame.data.length;
    if (this.#offsetBytes - this.#committedBytes < commitBytes) return false;
    await this.#commit();
    return true;
  }

  /** Everything is there: the file gets its size. */
  async finish(): Promise<void> {
    await this.#writing;
    await this.#committing;
    await this.#handle.truncate(this.#layer.fileSizeBytes);
    await this.#handle.sync();
    this.#complete = true;
    await this.#record(this.#layer.fileSizeBytes);
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#writing, this.#committing]);
    await this.#handle.close();
  }

  async #writeParts({ offset, data, body }: Frame): Promise<void> {
    await writeParts(this.#handle, data, offset);
    this.#framePool.give(body);
  }

  /** Records in the background that what was written up to now is there for good. */
  async #commit(): Promise<void> {
    await this.#committing;
    const [written, offsetBytes] = [this.#writing, this.#offsetBytes];
    this.#committedBytes = offsetBytes;
    this.#committing = (async () => {
      await written;
      await this.#handle.datasync();
      await this.#record(offsetBytes);
      this.#onCommitted();
    })();
    this.#committing.catch(() => {});
  }

  async #record(offsetBytes: number): Promise<void> {
    const record: z.infer<typeof recordSchema> = {
      version: recordVersion,
      layer: this.#layer,
      offsetBytes,
      complete: this.#complete,
    };
    const file = path.join(directoryOf(this.#pool, this.#layer.id), recordName);
    await writeRecord(file, record, this.#pool.layout.tmp);
  }
}

/** What is there of a layer, or null: what cannot be read can be fetched again. */
export async function readIncoming(pool: Pool, id: LayerId): Promise<z.infer<typeof recordSchema> | null> {
  return readRecordIfAny(path.join(directoryOf(pool, id), recordName), recordVersion, recordSchema);
}
