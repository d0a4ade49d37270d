import { randomFillSync } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { flushBuffers, zeroRange } from '../../host/flush-buffers.ts';
import { alignedBuffer } from '../../lib/aligned-buffer.ts';
import { KiB, MiB } from '../../lib/bytes.ts';

/** Requests in flight. libuv's pool has four threads; the kernel splits and queues what they write further. */
const concurrency = 4;
const directSizes = [4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB, MiB, 12 * KiB];
const sectorBytes = 512;

/**
 * A block device and the bytes that must be on it. Every write is of random bytes, so that a block that got another's
 * content, which is how QEMU 10.0.2 fails, is found.
 */
export class ProbeDisk {
  readonly #expected: Buffer;

  constructor(sizeBytes: number) {
    this.#expected = alignedBuffer(sizeBytes);
  }

  /**
   * Writes to the first `partBytes` of the device as file systems and databases do: scattered small writes through the
   * page cache and fsync, many big and small ones at once by O_DIRECT, zeroed ranges.
   */
  async write(device: string, partBytes: number): Promise<void> {
    await withDevice(device, constants.O_RDWR, async (handle) => {
      await this.#writeScattered(handle, partBytes);
      await handle.sync();
    });
    const middle = Math.floor(partBytes / 2 / sectorBytes) * sectorBytes;
    await this.#zero(device, { offset: middle + 20 * KiB, length: 700 * KiB });
    await withDevice(device, constants.O_RDWR | constants.O_DIRECT, async (handle) => {
      await this.#writeAtOnce(handle, { from: Math.floor(middle / MiB) * MiB, to: partBytes });
      await handle.sync();
    });
  }

  /** Offset of the first byte of the device that is not as written, or null. Reads what is below the page cache. */
  async findDifference(device: string): Promise<number | null> {
    await flushBuffers(device);
    return withDevice(device, constants.O_RDONLY | constants.O_DIRECT, (handle) => this.#compare(handle));
  }

  /** As `findDifference`, of a raw image file. */
  async findDifferenceInFile(file: string): Promise<number | null> {
    return withDevice(file, constants.O_RDONLY, (handle) => this.#compare(handle));
  }

  async #writeScattered(handle: FileHandle, partBytes: number): Promise<void> {
    const stride = 96 * KiB;
    for (let offset = 0, turn = 0; offset + stride <= partBytes; offset += stride, turn++) {
      const length = sectorBytes * (1 + ((turn * 37) % 150));
      await this.#writeRandom(handle, offset + sectorBytes * (turn % 7), length);
    }
  }

  async #writeAtOnce(handle: FileHandle, range: { from: number; to: number }): Promise<void> {
    const extents = cutUp(range);
    const writer = async () => {
      for (let extent = extents.pop(); extent; extent = extents.pop()) {
        await this.#writeRandom(handle, extent.offset, extent.length);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, writer));
  }

  async #writeRandom(handle: FileHandle, offset: number, length: number): Promise<void> {
    randomFillSync(this.#expected, offset, length);
    await handle.write(this.#expected, offset, length, offset);
  }

  async #zero(device: string, range: { offset: number; length: number }): Promise<void> {
    await zeroRange(device, range);
    this.#expected.fill(0, range.offset, range.offset + range.length);
  }

  async #compare(handle: FileHandle): Promise<number | null> {
    const part = alignedBuffer(MiB);
    for (let offset = 0; offset < this.#expected.length; offset += MiB) {
      const { bytesRead } = await handle.read(part, 0, MiB, offset);
      if (bytesRead !== MiB) return offset + bytesRead;
      const wanted = this.#expected.subarray(offset, offset + MiB);
      if (!part.equals(wanted)) return offset + part.findIndex((byte, index) => byte !== wanted[index]);
    }
    return null;
  }
}

/** Extents of mixed sizes that cover a range, neighbours far apart in the order. */
function cutUp({ from, to }: { from: number; to: number }): { offset: number; length: number }[] {
  const extents: { offset: number; length: number }[] = [];
  for (let offset = from, turn = 0; offset < to; turn++) {
    const length = Math.min(directSizes[turn % directSizes.length] ?? MiB, to - offset);
    extents.push({ offset, length });
    offset += length;
  }
  const half = Math.ceil(extents.length / 2);
  return extents.slice(0, half).flatMap((extent, index) => [extent, ...extents.slice(half + index, half + index + 1)]);
}

async function withDevice<T>(file: string, flags: number, work: (handle: FileHandle) => Promise<T>): Promise<T> {
  const handle = await open(file, flags);
  try {
    return await work(handle);
  } finally {
    await handle.close();
  }
}
