import { randomFillSync } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { KiB } from '../src/lib/bytes.ts';

/** Overwrites random blocks of a device without a pause, and keeps the bytes that must be on it. */
export class DeviceWriter {
  readonly expected: Buffer;
  readonly #handle: FileHandle;
  readonly #ended: Promise<void>;
  #stopped = false;
  writes = 0;

  private constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.expected = Buffer.alloc(sizeBytes);
    this.#ended = this.#run();
  }

  /** The device holds zeroes. */
  static async on(device: string, sizeBytes: number): Promise<DeviceWriter> {
    return new DeviceWriter(await open(device, constants.O_RDWR | constants.O_DSYNC), sizeBytes);
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const length = 4 * KiB * (1 + (this.writes % 24));
      const offset = 4 * KiB * ((this.writes * 7919) % ((this.expected.length - length) / (4 * KiB)));
      randomFillSync(this.expected, offset, length);
      await this.#handle.write(this.expected, offset, length, offset);
      this.writes++;
    }
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.#ended;
    await this.#handle.close();
  }
}
