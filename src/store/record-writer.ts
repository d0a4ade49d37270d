import { unlink } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ifErrno, LaminaError } from '../lib/errors.ts';
import { replaceRecord, syncDirectory } from '../lib/fs-records.ts';
import type { PoolLayout } from './layout.ts';

/** Small changes of a pool's metadata, which must work on a full disk too. */
export class RecordWriter {
  readonly #layout: PoolLayout;

  constructor(layout: PoolLayout) {
    this.#layout = layout;
  }

  /** @param onReplaced called as soon as the record is the one that a restart finds, also where it then fails to be flushed */
  async write(file: string, record: unknown, onReplaced: () => void): Promise<void> {
    await this.freeing(async () => {
      await replaceRecord(file, record, this.#layout.tmp);
      onReplaced();
      await syncDirectory(path.dirname(file));
    });
  }

  /** Idempotent. */
  async unlink(file: string): Promise<void> {
    await this.freeing(() => unlink(file).catch(ifErrno('ENOENT', undefined)));
    await syncDirectory(path.dirname(file));
  }

  /** Runs a small change; where even that has no room, gives up the ballast and tries once more. @throws LaminaError `pool-full` */
  async freeing(change: () => Promise<void>): Promise<void> {
    try {
      await change();
    } catch (error) {
      if (errnoOf(error) !== 'ENOSPC') throw error;
      await unlink(this.#layout.ballast).catch(ifErrno('ENOENT', undefined));
      try {
        await change();
      } catch (again) {
        if (errnoOf(again) !== 'ENOSPC') throw again;
        throw new LaminaError(
          'pool-full',
          `no room for a record in ${this.#layout.root}: delete volumes, snapshots or images`,
          { cause: again },
        );
      }
    }
  }
}
