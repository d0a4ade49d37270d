import type { FileHandle } from 'node:fs/promises';
import { LaminaError } from '../../lib/errors.ts';

/** An image that somebody else has made, as far as our own parsers of headers look at it. */
export interface ForeignFile {
  /** For messages. */
  name: string;
  sizeBytes: number;
  /** Just as many bytes as are asked for. @throws LaminaError `image-refused` where they are not all in the file */
  read: (offset: number, length: number, what: string) => Promise<Buffer>;
}

export async function foreignFile(handle: FileHandle, name: string): Promise<ForeignFile> {
  const { size: sizeBytes } = await handle.stat();
  const read = async (offset: number, length: number, what: string) => {
    assertInside({ name, sizeBytes }, offset + length, what);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
    if (bytesRead < length) throw refusal(name, `became shorter while it was read`);
    return buffer;
  };
  return { name, sizeBytes, read };
}

/** @throws LaminaError `image-refused` where something ends behind the file; or at NaN */
export function assertInside(
  { name, sizeBytes }: Pick<ForeignFile, 'name' | 'sizeBytes'>,
  end: number,
  what: string,
): void {
  // NaN compares as false, too.
  if (!(end <= sizeBytes)) throw refusal(name, `is cut off: its ${what} lies beyond its end`);
}

/** A number of 64 bits, little endian; NaN where it is beyond what a file or disk can have. */
export function bigNumber(bytes: Buffer, at: number): number {
  const value = bytes.readBigUInt64LE(at);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.NaN : Number(value);
}

/** The size of a disk, from its header. @throws LaminaError `image-refused` where it is absurd */
export function virtualSize(bytes: number, name: string): number {
  if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  throw refusal(name, 'is a disk of 0 bytes, or of more than there can be');
}

export function refusal(name: string, what: string): LaminaError {
  return new LaminaError('image-refused', `${name} ${what}`);
}

export const makeWhole = 'make it whole with qemu-img convert, and import that';
