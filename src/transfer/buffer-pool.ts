/** Memory for data on its way, used again and again: giving each megabyte new memory costs more than moving it. */
export class BufferPool {
  readonly #sizeBytes: number;
  readonly #free: Buffer[] = [];

  /** @param sizeBytes of each buffer, and the most that can be taken */
  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
  }

  /** `bytes` of memory with anything in it. */
  take(bytes: number): Buffer {
    return (this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#sizeBytes)).subarray(0, bytes);
  }

  /** The taker gives back what it took, and does not touch it any more. */
  give(buffer: Buffer): void {
    this.#free.push(Buffer.from(buffer.buffer));
  }
}
