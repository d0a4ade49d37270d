import { type FileHandle, open } from 'node:fs/promises';
import { parseQcow2Header, qcow2HeaderBytes } from './qcow2-header.ts';

/** Of an entry of the refcount table: where a block of refcounts begins (QEMU's docs/interop/qcow2.rst). */
const blockOffset = ~0x1ffn;

/**
 * Whether a QCOW2 file reaches into the last cluster that its refcounts say is used. What was cut off reads as zeroes, and
 * QEMU says nothing. May say false for a whole image whose daemon was killed while it allocated: check that one.
 */
export async function reachesItsEnd(file: string): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const header = parseQcow2Header(await readAt(handle, qcow2HeaderBytes, 0), file);
    const { clusterSizeBytes, refcountBits, refcountTableOffset, refcountTableClusters } = header;
    const { size } = await handle.stat();
    const table = await readAt(handle, refcountTableClusters * clusterSizeBytes, refcountTableOffset);
    const lastBlock = Math.floor(lastUsedBit(table) / 64);
    // The header's own cluster is always counted.
    if (lastBlock < 0 || table.length < refcountTableClusters * clusterSizeBytes) return false;
    const offset = Number(table.readBigUInt64BE(lastBlock * 8) & blockOffset);
    const block = await readAt(handle, clusterSizeBytes, offset);
    if (block.length < clusterSizeBytes) return false;
    const lastEntry = Math.floor(lastUsedBit(block) / refcountBits);
    const lastCluster = (lastBlock * clusterSizeBytes * 8) / refcountBits + Math.max(0, lastEntry);
    return size > lastCluster * clusterSizeBytes;
  } finally {
    await handle.close();
  }
}

/** Number of the last bit that is set, from the first byte's lowest on; -1 where there is none. */
function lastUsedBit(bytes: Buffer): number {
  let at = bytes.length - 1;
  while (at >= 0 && bytes[at] === 0) at--;
  return at < 0 ? -1 : at * 8 + 31 - Math.clz32(bytes[at] ?? 0);
}

async function readAt(handle: FileHandle, length: number, position: number): Promise<Buffer> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
