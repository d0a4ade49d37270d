import { roundUp } from '../../lib/bytes.ts';
import { assertInside, bigNumber, type ForeignFile, makeWhole, refusal, virtualSize } from './foreign-file.ts';

const headerBytes = 512;
const version = 0x0001_0001;
/** What is left are disks that hold what differs from another one. */
const wholeTypes: readonly number[] = [1, 2];
const idBytes = 16;

/**
 * Reads the header of a VDI image (VirtualBox, version 1.1), and refuses one that is not whole.
 *
 * @returns the virtual size in bytes
 * @throws LaminaError `image-refused`
 */
export async function acceptVdi(file: ForeignFile): Promise<number> {
  const { name } = file;
  const header = await file.read(0, headerBytes, 'header');
  if (header.readUInt32LE(0x44) !== version) throw refusal(name, 'is a VDI image of an unknown version');
  const type = header.readUInt32LE(0x4c);
  const links = [header.subarray(0x1a8, 0x1a8 + idBytes), header.subarray(0x1b8, 0x1b8 + idBytes)];
  if (!wholeTypes.includes(type) || links.some((id) => id.some((byte) => byte !== 0))) {
    throw refusal(name, `is a VDI image that has a parent: ${makeWhole}`);
  }
  const [mapOffset, blocks, blockBytes] = [0x154, 0x180, 0x178].map((at) => header.readUInt32LE(at)) as Triple;
  assertInside(file, mapOffset + blocks * 4, 'block map');
  const diskBytes = bigNumber(header, 0x170);
  if (!(diskBytes <= blocks * blockBytes)) throw refusal(name, 'has a block map too small for its size');
  return virtualSize(roundUp(diskBytes, 512), name);
}

type Triple = [number, number, number];
