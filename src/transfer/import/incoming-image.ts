import { createHash, type Hash } from 'node:crypto';
import { access, constants, type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { MiB } from '../../lib/bytes.ts';
import { ifErrno, LaminaError } from '../../lib/errors.ts';
import { readRecordIfAny, writeRecord } from '../../lib/fs-records.ts';
import { discardIncoming, ensureIncoming, incomingDirectory, listIncomingOf } from '../../store/incoming.ts';
import type { Pool } from '../../store/pool.ts';
import { type ImageId, imageIdSchema } from '../../store/records.ts';
import { commitBytes } from '../layers/incoming-layer.ts';
import { writeParts } from '../layers/written-parts.ts';

const recordVersion = 1;
const recordName = 'import.json';
const downloadName = 'download';
const readBytes = MiB;
/** Sets them apart from layers on their way: no layer's directory begins so. */
const namePrefix = 'image_';

/** `incoming/image_<id>/import.json`: how far the file at the source has come. */
const recordSchema = z.strictObject({
  version: z.literal(recordVersion),
  /** What tells this source from another one. */
  source: z.string(),
  /** The strong ETag or the Last-Modified of the file; null where it cannot be gone on with. */
  validator: z.string().nullable(),
  /** The file is as it must be up to here, even after a power cut. */
  offsetBytes: z.int().nonnegative(),
  complete: z.boolean(),
});
type ImportRecord = z.infer<typeof recordSchema>;

/** How much is kept of a file. */
export interface KeptFile {
  offsetBytes: number;
  complete: boolean;
}

/** How much is kept of the file of just this source; null for nothing. */
export async function keptFile(pool: Pool, id: ImageId, source: string): Promise<KeptFile | null> {
  const directory = incomingDirectory(pool, namePrefix + id);
  const found = await readRecordIfAny(path.join(directory, recordName), recordVersion, recordSchema);
  if (found?.source !== source) return null;
  // It may have become a layer that nothing named, and that is gone.
  return access(path.join(directory, downloadName)).then(() => found, ifErrno('ENOENT', null));
}

export async function discardImage(pool: Pool, id: ImageId): Promise<void> {
  await discardIncoming(pool, namePrefix + id);
}

/** Images of which something lies in `incoming`, and when something last happened to them. */
export async function listIncomingImages(pool: Pool): Promise<{ id: ImageId; changedAt: Date }[]> {
  return listIncomingOf(pool, namePrefix, (rest) => imageIdSchema.safeParse(rest).data);
}

/** The file of a source on its way into a pool, byte for byte but for holes, with its digests. One at a time for each image. */
export class IncomingImage {
  readonly file: string;
  readonly #pool: Pool;
  readonly #directory: string;
  readonly #handle: FileHandle;
  #record: ImportRecord;
  #hashes: { sha256: Hash; sha512: Hash | null };
  #offsetBytes: number;

  /**
   * Goes on with what is there of just this source, or begins anew.
   * @param checksums that assertChecksum is going to be asked for
   * @throws the reason of `signal`, which ends the reading of what is there
   */
  static async open(
    pool: Pool,
    id: ImageId,
    source: string,
    { checksums = [], signal }: { checksums?: readonly string[]; signal: AbortSignal },
  ): Promise<IncomingImage> {
    const directory = incomingDirectory(pool, namePrefix + id);
    const file = path.join(directory, downloadName);
    const isLong = checksums.some((checksum) => checksum.startsWith('sha512:'));
    // What cannot be read can be fetched again.
    const found = await readRecordIfAny(path.join(directory, recordName), recordVersion, recordSchema);
    if (found?.source === source) {
      const handle = await open(file, constants.O_RDWR).catch(ifErrno('ENOENT', null));
      if (handle) {
        const incoming = new IncomingImage({ pool, directory, handle }, found, isLong);
        try {
          await incoming.#hashWhatIsThere(signal);
          return incoming;
        } catch (error) {
          await handle.close();
          throw error;
        }
      }
    }
    await discardImage(pool, id);
    await ensureIncoming(pool, namePrefix + id);
    const handle = await open(file, 'wx+', 0o600);
    const record = { version: recordVersion, source, validator: null, offsetBytes: 0, complete: false } as const;
    return new IncomingImage({ pool, directory, handle }, record, isLong);
  }

  private constructor(
    { pool, directory, handle }: { pool: Pool; directory: string; handle: FileHandle },
    record: ImportRecord,
    isLong: boolean,
  ) {
    this.file = path.join(directory, downloadName);
    this.#pool = pool;
    this.#directory = directory;
    this.#handle = handle;
    this.#record = record;
    this.#hashes = newHashes(isLong);
    this.#offsetBytes = record.offsetBytes;
  }

  get offsetBytes(): number {
    return this.#offsetBytes;
  }
  get complete(): boolean {
    return this.#record.complete;
  }
  get validator(): string | null {
    return this.#record.validator;
  }
  set validator(validator: string | null) {
    this.#record = { ...this.#record, validator };
  }

  /** Forgets all that has come, as another file is to come. */
  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#hashes = newHashes(this.#hashes.sha512 !== null);
    this.#offsetBytes = 0;
    this.#record = { ...this.#record, validator: null, offsetBytes: 0, complete: false };
    await this.#save();
  }

  /** @returns whether it was time to record how far it is */
  async write(data: Buffer): Promise<boolean> {
    // Other threads write while this one computes.
    const written = writeParts(this.#handle, data, this.#offsetBytes);
    this.#hash(data);
    await written;
    this.#offsetBytes += data.length;
    if (this.#offsetBytes - this.#record.offsetBytes < commitBytes) return false;
    await this.commit(false);
    return true;
  }

  /** Records that what has come is there for good. */
  async commit(complete: boolean): Promise<void> {
    await this.#handle.truncate(this.#offsetBytes);
    await this.#handle.sync();
    this.#record = { ...this.#record, offsetBytes: this.#offsetBytes, complete };
    await this.#save();
  }

  /** `sha256:HEX` of all that has come. */
  get digest(): string {
    return `sha256:${hexOf(this.#hashes.sha256)}`;
  }

  /** @param what the file is called. @throws LaminaError `checksum-mismatch` where what has come is another one */
  assertChecksum(checksum: string, what: string): void {
    const { sha512 } = this.#hashes;
    const found = sha512 && checksum.startsWith('sha512:') ? `sha512:${hexOf(sha512)}` : this.digest;
    if (found === checksum) return;
    throw new LaminaError('checksum-mismatch', `${what} adds up to ${found}, where ${checksum} is wanted`);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** The state of a hash cannot be kept; what lies behind the recorded offset may be half there. */
  async #hashWhatIsThere(signal: AbortSignal): Promise<void> {
    await this.#handle.truncate(this.#offsetBytes);
    const buffer = Buffer.alloc(readBytes);
    for (let at = 0; at < this.#offsetBytes; ) {
      signal.throwIfAborted();
      const { bytesRead } = await this.#handle.read(buffer, 0, readBytes, at);
      this.#hash(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
  }

  #hash(data: Buffer): void {
    this.#hashes.sha256.update(data);
    this.#hashes.sha512?.update(data);
  }

  async #save(): Promise<void> {
    await writeRecord(path.join(this.#directory, recordName), this.#record, this.#pool.layout.tmp);
  }
}

function newHashes(both: boolean): { sha256: Hash; sha512: Hash | null } {
  return { sha256: createHash('sha256'), sha512: both ? createHash('sha512') : null };
}

function hexOf(hash: Hash): string {
  return hash.copy().digest('hex');
}
