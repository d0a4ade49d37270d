import type { FileHandle } from 'node:fs/promises';

/** The block of every file system that a pool can be on. */
const blockBytes = 4096;
const zeroes = Buffer.alloc(blockBytes);

/** The parts of `data` that have to be written into a new file: runs of blocks that are not all zero. */
export function writtenParts(data: Buffer): { start: number; end: number }[] {
  const parts: { start: number; end: number }[] = [];
  let current: { start: number; end: number } | undefined;
  for (let start = 0; start < data.length; start += blockBytes) {
    const end = Math.min(start + blockBytes, data.length);
    if (isZero(data, start, end)) {
      current = undefined;
    } else if (current) {
      current.end = end;
    } else {
      current = { start, end };
      parts.push(current);
    }
  }
  return parts;
}

/** Writes `data` to a new file at `offset`, but for what is all zero and can stay a hole. */
export async function writeParts(handle: FileHandle, data: Buffer, offset: number): Promise<void> {
  for (const { start, end } of writtenParts(data)) {
    for (let done = start; done < end; ) {
      const { bytesWritten } = await handle.write(data, done, end - done, offset + done);
      done += bytesWritten;
    }
  }
}

function isZero(data: Buffer, start: number, end: number): boolean {
  // The first byte decides it for nearly all data.
  return data[start] === 0 && data.compare(zeroes, 0, end - start, start, end) === 0;
}
