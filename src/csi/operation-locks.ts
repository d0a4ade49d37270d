import { KeyedLock } from '../lib/keyed-lock.ts';

/**
 * At most one operation that changes a volume or snapshot at a time; a second one is refused as `busy` (ABORTED)
 * rather than kept waiting, since its caller asks again anyway. Calls that only read never come here. Controller and
 * node share one where one process is both.
 */
export class OperationLocks {
  readonly #locks = new KeyedLock();

  /** @throws LaminaError `busy` */
  withVolume<T>(volumeId: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.tryRun(`volume ${volumeId}`, work);
  }

  /** @throws LaminaError `busy` */
  withSnapshot<T>(snapshotId: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.tryRun(`snapshot ${snapshotId}`, work);
  }
}
