import { type FileHandle, open } from 'node:fs/promises';
import { LaminaError } from '../lib/errors.ts';

/** What the header of a QCOW2 file says (QEMU's docs/interop/qcow2.rst); nothing is trusted that is not checked here. */
export interface Qcow2Header {
  version: 2 | 3;
  virtualSizeBytes: number;
  clusterSizeBytes: number;
  /** As it stands in the file: possibly relative, absolute, or `json:…`. */
  backingFile: string | null;
  backingFormat: string | null;
  hasDataFile: boolean;
  encrypted: boolean;
  /** Set while a writer has not closed the image properly (lazy refcounts). */
  dirty: boolean;
  corrupt: boolean;
  l1TableOffset: number;
  l1Entries: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  refcountBits: number;
}

const magic = 0x514649fb;
const maxBackingNameBytes = 1023;
const maxL1Bytes = 32 * 1024 * 1024;
const maxRefcountTableBytes = 8 * 1024 * 1024;
const maxRefcountOrder = 6;
const extensionBackingFormat = 0xe2792aca;
const extensionDataFile = 0x44415441;
const incompatible = { dirty: 1n, corrupt: 2n, dataFile: 4n, compressionType: 8n, extendedL2: 16n };
const knownIncompatible = Object.values(incompatible).reduce((all, bit) => all | bit, 0n);

/** So many bytes from the start of an image are enough for every header that is accepted. */
export const qcow2HeaderBytes = 64 * 1024;

/**
 * Reads a header from the first qcow2HeaderBytes of an image.
 * @throws LaminaError `image-header-invalid`, with `file` in the message.
 */
export function parseQcow2Header(bytes: Buffer, file: string): Qcow2Header {
  const refuse = (what: string) =>
    new LaminaError('image-header-invalid', `${file} is no QCOW2 image we accept: ${what}`);
  if (bytes.length < 104 || bytes.readUInt32BE(0) !== magic) throw refuse('the header is missing or cut off');
  const version = bytes.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refuse(`version ${version} is unknown`);
  const clusterBits = bytes.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) throw refuse(`clusters of 2^${clusterBits} bytes`);
  const features = version === 3 ? bytes.readBigUInt64BE(72) : 0n;
  if ((features & ~knownIncompatible) !== 0n) throw refuse(`unknown incompatible features 0x${features.toString(16)}`);
  const virtualSize = bytes.readBigUInt64BE(24);
  if (virtualSize > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`a virtual size of ${virtualSize} bytes`);
  const l1Entries = bytes.readUInt32BE(36);
  const l1Offset = bytes.readBigUInt64BE(40);
  if (l1Entries * 8 > maxL1Bytes || l1Offset > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse('an absurd L1 table');
  const headerLength = version === 3 ? bytes.readUInt32BE(100) : 72;
  if (headerLength < 72 || headerLength > bytes.length) throw refuse(`a header of ${headerLength} bytes`);
  const backing = backingName(bytes, refuse);
  const extensions = headerExtensions(bytes, headerLength, backing.offset || bytes.length, refuse);
  return {
    version,
    virtualSizeBytes: Number(virtualSize),
    clusterSizeBytes: 2 ** clusterBits,
    backingFile: backing.name,
    backingFormat: extensions.get(extensionBackingFormat)?.toString('utf8') ?? null,
    hasDataFile: (features & incompatible.dataFile) !== 0n || extensions.has(extensionDataFile),
    encrypted: bytes.readUInt32BE(32) !== 0,
    dirty: (features & incompatible.dirty) !== 0n,
    corrupt: (features & incompatible.corrupt) !== 0n,
    l1TableOffset: Number(l1Offset),
    l1Entries,
    ...refcountTable(bytes, { version, clusterBits }, refuse),
  };
}

type Refuse = (what: string) => LaminaError;

function refcountTable(
  bytes: Buffer,
  { version, clusterBits }: { version: number; clusterBits: number },
  refuse: Refuse,
): Pick<Qcow2Header, 'refcountTableOffset' | 'refcountTableClusters' | 'refcountBits'> {
  const offset = bytes.readBigUInt64BE(48);
  const clusters = bytes.readUInt32BE(56);
  const order = version === 3 ? bytes.readUInt32BE(96) : 4;
  const isAbsurd = clusters * 2 ** clusterBits > maxRefcountTableBytes || offset > BigInt(Number.MAX_SAFE_INTEGER);
  if (isAbsurd || order > maxRefcountOrder) throw refuse('an absurd refcount table');
  return { refcountTableOffset: Number(offset), refcountTableClusters: clusters, refcountBits: 2 ** order };
}

function backingName(bytes: Buffer, refuse: Refuse): { name: string | null; offset: number } {
  const offset = Number(bytes.readBigUInt64BE(8));
  const length = bytes.readUInt32BE(16);
  if (offset === 0) return { name: null, offset: 0 };
  if (length > maxBackingNameBytes || offset + length > bytes.length) throw refuse('a backing file name out of bounds');
  return { name: bytes.subarray(offset, offset + length).toString('utf8'), offset };
}

function headerExtensions(bytes: Buffer, start: number, end: number, refuse: Refuse): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  let at = start;
  while (at + 8 <= end) {
    const type = bytes.readUInt32BE(at);
    if (type === 0) break;
    const length = bytes.readUInt32BE(at + 4);
    if (at + 8 + length > end) throw refuse('a header extension out of bounds');
    found.set(type, bytes.subarray(at + 8, at + 8 + length));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

async function readAt(handle: FileHandle, length: number, position: number): Promise<Buffer> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** Reads the header of the image at `file`. @throws as parseQcow2Header */
export async function readQcow2Header(file: string): Promise<Qcow2Header> {
  const handle = await open(file, 'r');
  try {
    return parseQcow2Header(await readAt(handle, qcow2HeaderBytes, 0), file);
  } finally {
    await handle.close();
  }
}

/**
 * Whether no guest cluster was ever allocated in the image, so that it reads exactly as its backing file. May say
 * false for an image that reads so all the same. The image must not be open for writing anywhere.
 */
export async function isUnwrittenQcow2(file: string): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const header = parseQcow2Header(await readAt(handle, qcow2HeaderBytes, 0), file);
    const table = await readAt(handle, header.l1Entries * 8, header.l1TableOffset);
    return table.length === header.l1Entries * 8 && table.every((byte) => byte === 0);
  } finally {
    await handle.close();
  }
}
