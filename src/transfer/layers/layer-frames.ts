import { hash } from 'node:crypto';
import { KiB } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { BufferPool } from '../buffer-pool.ts';

/**
 * What a layer's file is sent as: its parts that hold data, cut into frames, in the order of the file. A frame is
 *
 *     32 bytes  SHA-256 of all that follows of this frame
 *      4 bytes  kind: 1 data, 2 end
 *      4 bytes  length of the data; 0 at the end
 *      8 bytes  where in the file it begins; at the end the size of the file
 *
 * and then the data. Numbers are big-endian. What no frame covers is zero. The end frame tells a file that was sent whole
 * from one that broke off.
 */
export interface Frame {
  kind: 'data' | 'end';
  offset: number;
  data: Buffer;
  /** All that the digest is of: the numbers, and behind them `data`, in memory of framePool. */
  body: Buffer;
  digest: Buffer;
}

/** Writing bigger pieces is slower: they fall out of the processor's cache, and the kernel looks for bigger pages for them. */
export const maxDataBytes = 256 * KiB;
const digestBytes = 32;
const numberBytes = 16;
const kinds = { data: 1, end: 2 } as const;

/** Memory for frames. Whoever is done with one gives its `body` back. */
export const newFramePool = (): BufferPool => new BufferPool(numberBytes + maxDataBytes);

/** A frame with room for `length` bytes of data, which the caller writes into `data` before it makes the digest. */
export function newFrame(pool: BufferPool, kind: Frame['kind'], offset: number, length: number): Frame {
  const body = pool.take(numberBytes + length);
  body.writeUInt32BE(kinds[kind], 0);
  body.writeUInt32BE(length, 4);
  body.writeBigUInt64BE(BigInt(offset), 8);
  return { kind, offset, body, data: body.subarray(numberBytes), digest: Buffer.alloc(digestBytes) };
}

/**
 * In this thread: handing each frame over to another and back takes more than the hash itself saves, wherever all
 * processors have something to do.
 */
export function frameDigest({ body }: Pick<Frame, 'body'>): Buffer {
  return hash('sha256', body, 'buffer');
}

/** Puts frames together from the pieces that a connection delivers, and checks them. */
export class FrameParser {
  readonly #pool: BufferPool;
  readonly #header = Buffer.alloc(digestBytes + numberBytes);
  #headerLength = 0;
  #frame: Frame | undefined;
  #dataLength = 0;
  /** Where the next frame may begin at the earliest. */
  #nextOffset: number;
  readonly #fileSizeBytes: number;
  #ended = false;

  /**
   * @param from the first byte that was asked for
   * @param fileSizeBytes what the end must say, and no data goes beyond
   */
  constructor(pool: BufferPool, from: number, fileSizeBytes: number) {
    this.#pool = pool;
    this.#nextOffset = from;
    this.#fileSizeBytes = fileSizeBytes;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** @returns the frames that `chunk` completes. @throws LaminaError `peer-invalid` */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#ended) throw invalid('more behind the end');
      rest = this.#frame ? this.#takeData(this.#frame, rest) : this.#takeHeader(rest);
      if (this.#frame && this.#dataLength === this.#frame.data.length) frames.push(this.#complete(this.#frame));
    }
    return frames;
  }

  #takeHeader(chunk: Buffer): Buffer {
    const taken = chunk.copy(this.#header, this.#headerLength);
    this.#headerLength += taken;
    if (this.#headerLength === this.#header.length) this.#frame = this.#begin();
    return chunk.subarray(taken);
  }

  #begin(): Frame {
    const numbers = this.#header.subarray(digestBytes);
    const kind = numbers.readUInt32BE(0);
    const length = numbers.readUInt32BE(4);
    const offset = Number(numbers.readBigUInt64BE(8));
    this.#headerLength = 0;
    this.#dataLength = 0;
    if (kind === kinds.end) {
      if (length !== 0 || offset !== this.#fileSizeBytes) throw invalid(`an end at ${offset} with ${length} bytes`);
    } else {
      if (kind !== kinds.data || length === 0 || length > maxDataBytes)
        throw invalid(`a frame of kind ${kind} and ${length} bytes`);
      if (offset < this.#nextOffset || offset + length > this.#fileSizeBytes)
        throw invalid(`${length} bytes at ${offset}, after ${this.#nextOffset}, of ${this.#fileSizeBytes}`);
    }
    const frame = newFrame(this.#pool, kind === kinds.end ? 'end' : 'data', offset, length);
    this.#header.copy(frame.digest, 0, 0, digestBytes);
    return frame;
  }

  #takeData({ data }: Frame, chunk: Buffer): Buffer {
    const taken = chunk.copy(data, this.#dataLength);
    this.#dataLength += taken;
    return chunk.subarray(taken);
  }

  #complete(frame: Frame): Frame {
    if (!frameDigest(frame).equals(frame.digest)) throw invalid(`a wrong SHA-256 at byte ${frame.offset}`);
    this.#frame = undefined;
    this.#nextOffset = frame.offset + frame.data.length;
    this.#ended = frame.kind === 'end';
    return frame;
  }
}

function invalid(what: string): LaminaError {
  return new LaminaError('peer-invalid', `the peer sent ${what}`);
}
