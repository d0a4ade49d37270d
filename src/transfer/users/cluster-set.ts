/** Clusters between one entry of the index and the next. */
const stride = 512;

/**
 * A set of clusters of a disk, in which the nth one and how many come before one are found at once. A bit for each
 * cluster: 2 MiB for 1 TiB in clusters of 64 KiB.
 */
export class ClusterSet {
  readonly #clusters: number;
  readonly #bits: Uint8Array;
  /** How many are in the set before each `stride` clusters. */
  readonly #before: Uint32Array;
  readonly count: number;

  /** @param extents in order, in clusters; they may touch or overlap */
  static async from(clusters: number, extents: AsyncIterable<{ first: number; count: number }>): Promise<ClusterSet> {
    const bits = new Uint8Array(Math.ceil(clusters / 8));
    for await (const { first, count } of extents) {
      for (let cluster = first; cluster < first + count; cluster++) {
        const byte = cluster >> 3;
        bits[byte] = (bits[byte] ?? 0) | (1 << (cluster & 7));
      }
    }
    return new ClusterSet(clusters, bits);
  }

  private constructor(clusters: number, bits: Uint8Array) {
    this.#clusters = clusters;
    this.#bits = bits;
    this.#before = new Uint32Array(Math.ceil(clusters / stride) + 1);
    for (let index = 1; index < this.#before.length; index++) {
      const before = this.#before[index - 1] ?? 0;
      this.#before[index] = before + this.#countBetween((index - 1) * stride, Math.min(index * stride, clusters));
    }
    this.count = this.#before.at(-1) ?? 0;
  }

  has(cluster: number): boolean {
    return (((this.#bits[cluster >> 3] ?? 0) >> (cluster & 7)) & 1) === 1;
  }

  /** How many of the set come before `cluster`, which may lie behind the disk's end. */
  rank(cluster: number): number {
    const end = Math.min(cluster, this.#clusters);
    const index = Math.floor(end / stride);
    return (this.#before[index] ?? 0) + this.#countBetween(index * stride, end);
  }

  /** The `n`th of the set, from 0. */
  nth(n: number): number {
    let low = 0;
    for (let high = this.#before.length - 1; low < high - 1; ) {
      const middle = (low + high) >> 1;
      if ((this.#before[middle] ?? 0) <= n) low = middle;
      else high = middle;
    }
    let left = n - (this.#before[low] ?? 0);
    for (let cluster = low * stride; ; cluster++) if (this.has(cluster) && left-- === 0) return cluster;
  }

  /** The same for the same set. */
  get bytes(): Uint8Array {
    return this.#bits;
  }

  #countBetween(from: number, to: number): number {
    let count = 0;
    for (let cluster = from; cluster < to; cluster++) if (this.has(cluster)) count++;
    return count;
  }
}
