import { isLaminaError } from '../lib/errors.ts';
import type { Pool } from './pool.ts';
import type { DiskId } from './records.ts';
import { finishSnapshot, type LiveDisk } from './take-snapshot.ts';

/** Brings every snapshot of `disk` that a crash or a failure left pending to its end. */
export async function settleSnapshots(pool: Pool, disk: DiskId, live: LiveDisk | null): Promise<void> {
  const pending = [...pool.snapshots.values()].filter((s) => s.disk === disk && s.state === 'pending');
  for (const snapshot of pending) {
    try {
      await finishSnapshot(pool, snapshot, live);
    } catch (error) {
      // Dropped, because nothing had been switched yet: the caller that wanted it asks again.
      if (!isLaminaError(error, 'snapshot-not-found')) throw error;
    }
  }
}

/**
 * Removes what clones passed through, and every layer that nothing names. What could not be settled stays: its record
 * is all that tells that the disk may still write to its layer.
 */
export async function sweep(pool: Pool): Promise<void> {
  for (const { id, transient, state } of [...pool.snapshots.values()]) {
    if (transient && state === 'ready') await pool.removeSnapshot(id);
  }
  await pool.collect();
}

/** Finishes or undoes everything that was interrupted, in a pool none of whose disks is attached. */
export async function recoverDetached(pool: Pool): Promise<void> {
  const disks = new Set([...pool.snapshots.values()].map((snapshot) => snapshot.disk));
  for (const disk of disks) await settleSnapshots(pool, disk, null);
  await sweep(pool);
}
