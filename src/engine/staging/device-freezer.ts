import { mountsOf, readMounts } from '../../host/mountinfo.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import { numberOf } from './device-use.ts';
import type { Freezer } from '../disks/disk-context.ts';
import { withFrozen } from './freeze-marks.ts';
import type { FreezeStep } from './staging-steps.ts';

export interface DeviceFreezerOptions {
  runDir: string;
  checkpoint: Checkpoint<FreezeStep>;
  /** Told how long a file system stood still, in milliseconds. */
  onFrozen: (durationMs: number) => void;
}

/** Freezes the file system of a device, where one is mounted. */
export class DeviceFreezer implements Freezer {
  readonly #options: DeviceFreezerOptions;

  constructor(options: DeviceFreezerOptions) {
    this.#options = options;
  }

  async whileFrozen(diskId: string, device: BlockDevice, work: () => Promise<void>): Promise<void> {
    const { runDir, checkpoint, onFrozen } = this.#options;
    // Only a directory can be frozen; bind mounts of parts, such as a pod's subPath, can be of single files.
    const mounts = (await mountsOf(await readMounts(), numberOf(device))).filter(({ root }) => root === '/');
    if (mounts.length === 0) return work();
    onFrozen(await withFrozen({ targets: [{ diskId, device, mounts }], runDir, work, checkpoint }));
  }
}
