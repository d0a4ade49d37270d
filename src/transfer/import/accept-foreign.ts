import type { FileHandle } from 'node:fs/promises';
import { LaminaError } from '../../lib/errors.ts';

/** Images of other programs, as far as they could have QEMU open other files. Everything else of them is QEMU's to read. */

const sectorBytes = 512;
const maxDescriptorBytes = 20 * sectorBytes;
/** "The grain directory is at the end", in a footer of the form of the header. */
const atEnd = 0xffff_ffff_ffff_ffffn;

/**
 * A VMDK whose data is all in this file: as virtual machines have it, or as it is in OVA archives.
 *
 * @throws LaminaError `image-refused`
 */
export async function acceptVmdk(handle: FileHandle, name: string): Promise<void> {
  const { size } = await handle.stat();
  const header = await readBytes(handle, 0, sectorBytes);
  assertSparse(header, name);
  if (header.readBigUInt64LE(56) === atEnd) {
    // QEMU takes this for the header.
    const footer = await readBytes(handle, Math.max(0, size - 2 * sectorBytes), sectorBytes);
    assertSparse(footer, name);
    await assertDescriptor(handle, footer, name);
  }
  await assertDescriptor(handle, header, name);
}

function assertSparse(header: Buffer, name: string): void {
  const isSparse = header.length === sectorBytes && header.toString('latin1', 0, 4) === 'KDMV';
  // With no capacity of its own it only describes other files.
  if (isSparse && header.readBigUInt64LE(12) > 0n) return;
  throw new LaminaError('image-refused', `${name} is a VMDK image that keeps its data in other files`);
}

async function assertDescriptor(handle: FileHandle, header: Buffer, name: string): Promise<void> {
  const offset = header.readBigUInt64LE(28) * BigInt(sectorBytes);
  const { size } = await handle.stat();
  if (offset > BigInt(size)) throw new LaminaError('image-refused', `${name} is a VMDK image that is cut off`);
  const text = (await readBytes(handle, Number(offset), maxDescriptorBytes)).toString('latin1');
  const hasParent = /parentFileNameHint/i.test(text) || /parentCID\s*=\s*(?!f{8})[0-9a-f]/i.test(text);
  if (!hasParent) return;
  throw new LaminaError(
    'image-refused',
    `${name} is a VMDK image on another one: make it whole with qemu-img convert where that is, and import the result`,
  );
}

const vdiHeaderBytes = 512;
const nullUuid = Buffer.alloc(16);

/** A VDI that is no difference to another one. @throws LaminaError `image-refused` */
export async function acceptVdi(handle: FileHandle, name: string): Promise<void> {
  const header = await readBytes(handle, 0, vdiHeaderBytes);
  if (header.length < vdiHeaderBytes) throw new LaminaError('image-refused', `${name} is a VDI image that is cut off`);
  const isWhole = [1, 2].includes(header.readUInt32LE(76));
  const links = [424, 440].map((at) => header.subarray(at, at + 16));
  if (isWhole && links.every((uuid) => uuid.equals(nullUuid))) return;
  throw new LaminaError(
    'image-refused',
    `${name} is a VDI image on another one: make it whole where that is, and import the result`,
  );
}

async function readBytes(handle: FileHandle, at: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, at);
  return buffer.subarray(0, bytesRead);
}
