import { KiB, MiB } from '../../lib/bytes.ts';
import { assertInside, bigNumber, type ForeignFile, makeWhole, refusal, virtualSize } from './foreign-file.ts';

const tableBytes = 64 * KiB;
const regionTableOffset = 192 * KiB;
const maxEntries = 2047;
const entryBytes = 32;
const hasParent = 2;

/** As they lie in the file: the first three parts of a GUID are little endian. */
const regions = {
  map: '6677c22d 23f6 0042 9d64 115e9bfd4a08',
  metadata: '06a27c8b 9047 9a4b b8fe 575f050f886e',
} as const;
const items = {
  parameters: '3767a1ca 36fa 434d b3b6 33f0aa44e76b',
  diskSize: '2442a52f 1bcd 7648 b211 5dbed83bf4b8',
  parent: '2d5fd3a8 0bb3 4d45 abf7 d3d84834ab0c',
} as const;

/**
 * Reads the regions and metadata of a VHDX image (Microsoft's MS-VHDX), and refuses one that is not whole.
 *
 * @returns the virtual size in bytes
 * @throws LaminaError `image-refused`
 */
export async function acceptVhdx(file: ForeignFile): Promise<number> {
  const { name } = file;
  const table = await file.read(regionTableOffset, tableBytes, 'table of regions');
  if (table.toString('latin1', 0, 4) !== 'regi') throw refusal(name, 'is a VHDX image without a table of regions');
  const [map, metadata] = [regions.map, regions.metadata].map((id) => {
    const entry = find(table, { id, count: table.readUInt32LE(8), from: 16 }, name);
    if (!entry) throw refusal(name, 'is a VHDX image that lacks its metadata or its map of blocks');
    return { offset: bigNumber(entry, 16), length: entry.readUInt32LE(24) };
  }) as [Region, Region];
  assertInside(file, map.offset + map.length, 'map of blocks');
  if (!(metadata.offset >= MiB)) throw refusal(name, 'has its metadata where there can be none');
  const description = await file.read(metadata.offset, tableBytes, 'metadata');
  const item = (id: string) => readItem(file, metadata, description, id);
  const parameters = await item(items.parameters);
  const size = await item(items.diskSize);
  if (!parameters || !size) throw refusal(name, 'is a VHDX image that does not say its size');
  if ((parameters.readUInt32LE(4) & hasParent) !== 0 || (await item(items.parent))) {
    throw refusal(name, `is a VHDX image that has a parent: ${makeWhole}`);
  }
  return virtualSize(bigNumber(size, 0), name);
}

interface Region {
  offset: number;
  length: number;
}

async function readItem(
  file: ForeignFile,
  region: Region,
  description: Buffer,
  id: string,
): Promise<Buffer | undefined> {
  if (description.toString('latin1', 0, 8) !== 'metadata')
    throw refusal(file.name, 'has no metadata where they are said to be');
  const entry = find(description, { id, count: description.readUInt16LE(10), from: 32 }, file.name);
  // No item that is read is longer; the rest of a parent's locator does not matter.
  return entry && file.read(region.offset + entry.readUInt32LE(16), 8, 'metadata');
}

/** The entry of a table that begins with a GUID. */
function find(table: Buffer, { id, count, from }: { id: string; count: number; from: number }, name: string) {
  if (count > maxEntries) throw refusal(name, `has an absurd table of ${count} entries`);
  const wanted = Buffer.from(id.replaceAll(' ', ''), 'hex');
  for (let index = 0; index < count; index++) {
    const at = from + index * entryBytes;
    const entry = table.subarray(at, at + entryBytes);
    if (entry.length === entryBytes && entry.subarray(0, wanted.length).equals(wanted)) return entry;
  }
  return undefined;
}
