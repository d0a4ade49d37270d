import { stat } from 'node:fs/promises';
import { ifErrno } from '../../lib/errors.ts';
import { blockDeviceSizeBytes, claimUnused } from '../../host/block-device.ts';
import {
  createLoopDevice,
  findLoopDevice,
  forbidDiscard,
  refreshLoopCapacity,
  refuseClosing,
  removeLoopDevice,
} from '../../host/loop.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { EngineStep } from './steps.ts';

/** A loop device on a raw file: no daemon. */
export class LoopBackend {
  readonly #directIo: boolean;
  readonly #checkpoint: Checkpoint<EngineStep>;

  constructor(options: { directIo: boolean; checkpoint: Checkpoint<EngineStep> }) {
    this.#directIo = options.directIo;
    this.#checkpoint = options.checkpoint;
  }

  /** The device's path, or null. */
  async find(file: string): Promise<string | null> {
    return findLoopDevice(file).catch(ifErrno('ENOENT', null));
  }

  /** Idempotent. @returns the device's path. @throws LaminaError `disk-in-use` */
  async attach(file: string, options: { discard: boolean }): Promise<string> {
    const found = await this.find(file);
    if (found !== null) return this.#prepare(found, file, options);
    const device = await createLoopDevice(file, { directIo: this.#directIo });
    try {
      return await this.#prepare(device, file, options);
    } catch (error) {
      // Whoever is told that it failed for good does not ask for it to be detached.
      await removeLoopDevice(device);
      throw error;
    }
  }

  async #prepare(device: string, file: string, options: { discard: boolean }): Promise<string> {
    await refuseClosing(device);
    this.#checkpoint('attach-loop/device-made');
    if (!options.discard) await forbidDiscard(device);
    this.#checkpoint('attach-loop/discard-forbidden');
    await this.#grow(device, (await stat(file)).size);
    return device;
  }

  /** Idempotent. @throws LaminaError `disk-in-use` */
  async detach(file: string): Promise<void> {
    const device = await this.find(file);
    if (device === null) return;
    await claimUnused(device, { flush: true });
    await removeLoopDevice(device);
    this.#checkpoint('detach-loop/device-removed');
  }

  async resize(device: string, sizeBytes: number): Promise<void> {
    await this.#grow(device, sizeBytes);
    this.#checkpoint('resize-loop/device-grown');
  }

  async #grow(device: string, sizeBytes: number): Promise<void> {
    if ((await blockDeviceSizeBytes(device)) < sizeBytes) await refreshLoopCapacity(device);
  }
}
