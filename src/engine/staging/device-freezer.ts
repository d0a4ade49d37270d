import { mountsOf, readMounts } from '../../host/mountinfo.ts';
import { untilAborted } from '../../lib/abort.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import { KeyedLock } from '../../lib/keyed-lock.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import { numberOf } from './device-use.ts';
import type { Freezer } from '../disks/disk-context.ts';
import { type FreezeTarget, withFrozen } from './freeze-marks.ts';
import type { FreezeStep } from './staging-steps.ts';

export interface DeviceFreezerOptions {
  runDir: string;
  checkpoint: Checkpoint<FreezeStep>;
  /** Told how long a file system stood still for a snapshot, in milliseconds. */
  onFrozen: (durationMs: number) => void;
}

/** Freezes the file system of a device, where one is mounted: for the moment of a snapshot, or for as long as writes must wait. */
export class DeviceFreezer implements Freezer {
  readonly #options: DeviceFreezerOptions;
  /** Held while a disk's file system is frozen: its mark has room for one freeze. */
  readonly #locks = new KeyedLock();
  /** What ends the pause of a disk. */
  readonly #pauses = new Map<string, AbortController>();
  /** How many calls there are that a disk must not be paused meanwhile. */
  readonly #heldOff = new Map<string, number>();

  constructor(options: DeviceFreezerOptions) {
    this.#options = options;
  }

  async whileFrozen(diskId: string, device: BlockDevice, work: () => Promise<void>): Promise<void> {
    const { runDir, checkpoint, onFrozen } = this.#options;
    await this.whileNotPaused(diskId, () =>
      this.#locks.run(diskId, async () => {
        const target = await targetOf(diskId, device);
        if (!target) return work();
        onFrozen(await withFrozen({ targets: [target], runDir, work, checkpoint }));
      }),
    );
  }

  /**
   * Keeps a disk's file system frozen until `signal` aborts or somebody calls `whileNotPaused`. Does nothing where nothing is
   * mounted, or where it is frozen already or must not be.
   *
   * @param onPaused called once nothing can be written any more
   */
  async pause(diskId: string, device: BlockDevice, signal: AbortSignal, onPaused: () => void): Promise<void> {
    const { runDir, checkpoint } = this.#options;
    if (this.#locks.isHeld(diskId) || this.#heldOff.has(diskId)) return;
    const over = new AbortController();
    this.#pauses.set(diskId, over);
    await this.#locks.run(diskId, async () => {
      const work = () => {
        onPaused();
        return untilAborted(AbortSignal.any([signal, over.signal]));
      };
      try {
        const target = await targetOf(diskId, device);
        if (!target || over.signal.aborted) return;
        await withFrozen({ targets: [target], runDir, work, checkpoint, atOnce: true });
      } finally {
        this.#pauses.delete(diskId);
      }
    });
  }

  /** Ends the pause of a disk and runs `work` before there could be another one. */
  async whileNotPaused<T>(diskId: string, work: () => Promise<T>): Promise<T> {
    this.#heldOff.set(diskId, (this.#heldOff.get(diskId) ?? 0) + 1);
    try {
      const pause = this.#pauses.get(diskId);
      pause?.abort();
      if (pause) await this.#locks.run(diskId, async () => {});
      return await work();
    } finally {
      const left = (this.#heldOff.get(diskId) ?? 1) - 1;
      if (left > 0) this.#heldOff.set(diskId, left);
      else this.#heldOff.delete(diskId);
    }
  }
}

async function targetOf(diskId: string, device: BlockDevice): Promise<FreezeTarget | null> {
  // Only a directory can be frozen; bind mounts of parts, such as a pod's subPath, can be of single files.
  const mounts = (await mountsOf(await readMounts(), numberOf(device))).filter(({ root }) => root === '/');
  return mounts.length > 0 ? { diskId, device, mounts } : null;
}
