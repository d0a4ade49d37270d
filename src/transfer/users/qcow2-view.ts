import type { ClusterSet } from './cluster-set.ts';

/** A version 3 header and an empty list of extensions behind it. */
const headerBytes = 104;
const magic = 0x514649fb;
const entryBytes = 8;
/** The least that QEMU makes by default, and the most that is chosen for disks for which that would be many. */
const leastClusterBits = 16;
const maxClusters = 2 ** 24;
/** Nobody else refers to the cluster. */
const copied = 1n << 63n;

export function clusterBitsFor(virtualSizeBytes: number): number {
  return Math.max(leastClusterBits, Math.ceil(Math.log2(virtualSizeBytes / maxClusters)));
}

/** Part of the view: metadata, which is made here, or data of the disk from `offset` on. */
export type ViewPart = { kind: 'metadata'; bytes: Buffer } | { kind: 'disk'; offset: number; length: number };

/**
 * A QCOW2 file that exists nowhere: all of its metadata follows from the size of the disk and from which of its clusters
 * hold data, so any part of it can be made when it is asked for. In the file, each a whole number of clusters:
 * the header, the refcount table, the refcount blocks, the L1 table, L2 tables of those parts of the disk that hold
 * data, and the data in the order of the disk. All are used once (QEMU's docs/interop/qcow2.rst).
 */
export class Qcow2View {
  readonly sizeBytes: number;
  readonly #virtualSizeBytes: number;
  readonly #bits: number;
  readonly #clusterBytes: number;
  readonly #data: ClusterSet;
  /** Parts of the disk that have an L2 table in the file, in order. */
  readonly #tables: number[];
  /** Which of the tables a part has. */
  readonly #tableOf: Map<number, number>;
  readonly #layout: Layout;

  /** @param data which clusters, of 2^clusterBitsFor(size) bytes, hold data */
  constructor(virtualSizeBytes: number, data: ClusterSet) {
    this.#virtualSizeBytes = virtualSizeBytes;
    this.#bits = clusterBitsFor(virtualSizeBytes);
    this.#clusterBytes = 2 ** this.#bits;
    this.#data = data;
    const perTable = this.#clusterBytes / entryBytes;
    const parts = Math.ceil(virtualSizeBytes / (this.#clusterBytes * perTable));
    this.#tables = Array.from({ length: parts }, (_, part) => part).filter(
      (part) => data.rank((part + 1) * perTable) > data.rank(part * perTable),
    );
    this.#tableOf = new Map(this.#tables.map((part, table) => [part, table]));
    this.#layout = layOut(this.#clusterBytes, { l1Entries: parts, tables: this.#tables.length, data: data.count });
    this.sizeBytes = this.#layout.clusters * this.#clusterBytes;
  }

  /** The bytes from `start` up to `end`, as the parts they are made of; none is longer than a cluster. */
  *parts(start: number, end: number): Generator<ViewPart> {
    for (let at = start; at < end; ) {
      const cluster = Math.floor(at / this.#clusterBytes);
      const inside = at - cluster * this.#clusterBytes;
      const length = Math.min(this.#clusterBytes - inside, end - at);
      yield this.#part(cluster, inside, length);
      at += length;
    }
  }

  #part(cluster: number, inside: number, length: number): ViewPart {
    const { dataStart } = this.#layout;
    if (cluster < dataStart)
      return { kind: 'metadata', bytes: this.#metadata(cluster).subarray(inside, inside + length) };
    const offset = this.#data.nth(cluster - dataStart) * this.#clusterBytes + inside;
    return { kind: 'disk', offset, length };
  }

  #metadata(cluster: number): Buffer {
    const { refcountTable, refcountBlocks, l1, l2 } = this.#layout;
    if (cluster >= l2) return this.#l2Table(this.#tables[cluster - l2] ?? 0);
    if (cluster >= l1) return this.#entries(cluster - l1, (index) => this.#l1Entry(index));
    if (cluster >= refcountBlocks) return this.#refcountBlock(cluster - refcountBlocks);
    if (cluster >= refcountTable)
      return this.#entries(cluster - refcountTable, (index) => {
        return index < l1 - refcountBlocks ? BigInt(refcountBlocks + index) << BigInt(this.#bits) : 0n;
      });
    return this.#header();
  }

  #header(): Buffer {
    const { refcountTable, refcountBlocks, l1, l1Entries } = this.#layout;
    const bytes = Buffer.alloc(this.#clusterBytes);
    bytes.writeUInt32BE(magic, 0);
    bytes.writeUInt32BE(3, 4);
    bytes.writeUInt32BE(this.#bits, 20);
    bytes.writeBigUInt64BE(BigInt(this.#virtualSizeBytes), 24);
    bytes.writeUInt32BE(l1Entries, 36);
    bytes.writeBigUInt64BE(BigInt(l1) << BigInt(this.#bits), 40);
    bytes.writeBigUInt64BE(BigInt(refcountTable) << BigInt(this.#bits), 48);
    bytes.writeUInt32BE(refcountBlocks - refcountTable, 56);
    // Refcounts of 2^4 bits.
    bytes.writeUInt32BE(4, 96);
    bytes.writeUInt32BE(headerBytes, 100);
    return bytes;
  }

  /** The `n`th cluster of a table of entries. */
  #entries(n: number, entry: (index: number) => bigint): Buffer {
    const bytes = Buffer.alloc(this.#clusterBytes);
    const perCluster = this.#clusterBytes / entryBytes;
    for (let index = 0; index < perCluster; index++)
      bytes.writeBigUInt64BE(entry(n * perCluster + index), index * entryBytes);
    return bytes;
  }

  #l1Entry(part: number): bigint {
    const table = this.#tableOf.get(part);
    return table === undefined ? 0n : copied | (BigInt(this.#layout.l2 + table) << BigInt(this.#bits));
  }

  #l2Table(part: number): Buffer {
    const first = part * (this.#clusterBytes / entryBytes);
    let next = this.#layout.dataStart + this.#data.rank(first);
    return this.#entries(0, (index) => {
      if (!this.#data.has(first + index)) return 0n;
      return copied | (BigInt(next++) << BigInt(this.#bits));
    });
  }

  /** One for each cluster of the file, none behind its end. */
  #refcountBlock(block: number): Buffer {
    const perBlock = this.#clusterBytes / 2;
    const used = Math.min(perBlock, this.#layout.clusters - block * perBlock);
    const bytes = Buffer.alloc(this.#clusterBytes);
    for (let index = 0; index < used; index++) bytes[index * 2 + 1] = 1;
    return bytes;
  }
}

/** Where each part begins, in clusters. */
interface Layout {
  refcountTable: number;
  refcountBlocks: number;
  l1: number;
  l2: number;
  dataStart: number;
  clusters: number;
  l1Entries: number;
}

function layOut(clusterBytes: number, content: { l1Entries: number; tables: number; data: number }): Layout {
  const { l1Entries, tables, data } = content;
  const l1Clusters = Math.ceil((l1Entries * entryBytes) / clusterBytes);
  const others = 1 + l1Clusters + tables + data;
  // Refcounts count the clusters that hold refcounts, too.
  let blocks = 0;
  let table = 0;
  for (let before = -1; before !== blocks + table; ) {
    before = blocks + table;
    blocks = Math.ceil((others + before) / (clusterBytes / 2));
    table = Math.ceil((blocks * entryBytes) / clusterBytes);
  }
  const refcountBlocks = 1 + table;
  const l1 = refcountBlocks + blocks;
  const l2 = l1 + l1Clusters;
  return { refcountTable: 1, refcountBlocks, l1, l2, dataStart: l2 + tables, clusters: l2 + tables + data, l1Entries };
}
