import type { FileHandle } from 'node:fs/promises';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import { parseQcow2Header, type Qcow2Header, qcow2HeaderBytes } from '../../qemu/qcow2-header.ts';
import { maxFileBytes } from '../layers/chain-description.ts';

/**
 * Reads a header that somebody else has written, and refuses everything that could have QEMU open other files, or be
 * occupied for ever. Nothing but our own parser has looked at the file before.
 *
 * @throws LaminaError `image-refused`
 */
export async function acceptQcow2(handle: FileHandle, name: string): Promise<Qcow2Header & { asItIs: boolean }> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(qcow2HeaderBytes), 0, qcow2HeaderBytes, 0);
  const head = buffer.subarray(0, bytesRead);
  return acceptQcow2Header(head, (await handle.stat()).size, name);
}

/** @param head the first qcow2HeaderBytes of a file of `fileBytes` */
export function acceptQcow2Header(head: Buffer, fileBytes: number, name: string): Qcow2Header & { asItIs: boolean } {
  const refuse = (what: string) => new LaminaError('image-refused', `${name} ${what}`);
  let header: Qcow2Header;
  try {
    header = parseQcow2Header(head, name);
  } catch (error) {
    throw isLaminaError(error, 'image-header-invalid') ? refused(error) : error;
  }
  const { virtualSizeBytes, clusterSizeBytes, l1TableOffset, l1Entries } = header;
  if (header.backingFile !== null) {
    throw refuse(`names the backing file '${header.backingFile}': make it whole with 'qemu-img convert -O qcow2'`);
  }
  if (header.hasDataFile)
    throw refuse("keeps its data in another file: make it whole with 'qemu-img convert -O qcow2'");
  if (header.encrypted)
    throw refuse('is encrypted: decrypt it with qemu-img convert where the key is, and import that');
  if (header.corrupt) throw refuse('is marked as corrupt: repair it with qemu-img check -r all');
  if (virtualSizeBytes === 0) throw refuse('is a disk of 0 bytes');
  const guestBytesPerL1 = (clusterSizeBytes / 8) * clusterSizeBytes;
  if (l1Entries * guestBytesPerL1 < virtualSizeBytes) throw refuse('has an L1 table too small for its size');
  const tables = {
    L1: [l1TableOffset, l1Entries * 8],
    refcount: refcountTable(head, clusterSizeBytes),
    snapshot: snapshotTable(head),
  } as const;
  for (const [table, [offset, bytes]] of Object.entries(tables)) {
    if (offset % clusterSizeBytes !== 0 || offset + bytes > fileBytes)
      throw refuse(`has its ${table} table beyond its end`);
  }
  // A bigger file is one that no other node would take, with what was freed of its snapshots.
  return { ...header, asItIs: isFit(header, head) && fileBytes <= maxFileBytes(virtualSizeBytes) };
}

function refused(error: Error): LaminaError {
  return new LaminaError('image-refused', error.message, { cause: error });
}

function refcountTable(head: Buffer, clusterSizeBytes: number): [number, number] {
  return [Number(head.readBigUInt64BE(48)), head.readUInt32BE(56) * clusterSizeBytes];
}

/** Where it is, and how long at least. */
function snapshotTable(head: Buffer): [number, number] {
  const count = head.readUInt32BE(60);
  return count === 0 ? [0, 0] : [Number(head.readBigUInt64BE(64)), count * leastSnapshotBytes];
}

const leastSnapshotBytes = 40;
const leastClusterBytes = 64 * 1024;

/** Whether its header is that of a layer: nothing in it that we do not write, but for compressed clusters. */
function isFit({ version, dirty, clusterSizeBytes, virtualSizeBytes }: Qcow2Header, head: Buffer): boolean {
  if (version !== 3 || dirty || clusterSizeBytes < leastClusterBytes || virtualSizeBytes % 512 !== 0) return false;
  const [snapshots, autoclear] = [head.readUInt32BE(60), head.readBigUInt64BE(88)];
  return snapshots === 0 && autoclear === 0n;
}
