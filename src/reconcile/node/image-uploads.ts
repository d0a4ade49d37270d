import { LaminaError } from '../../lib/errors.ts';
import { type AwaitedImage, keptUpload, receiveUpload } from '../../transfer/import/receive-upload.ts';
import type { UploadPart, UploadSink } from '../../transfer/users/take-upload.ts';
import { importContextOf, type CommonImportContext } from './image-imports.ts';
import type { ServedPool } from './node-pools.ts';

export interface ImageUploadsOptions extends CommonImportContext {
  /** Whether this node answers people at all. */
  isEnabled: boolean;
  /** Called with the key of a DiskImage of which something begins or ceases to come. */
  onChange: (key: string) => void;
}

/** How far the file of a DiskImage is. */
export interface UploadState {
  receivedBytes: number;
  /** Null where the sender does not say, and where nothing comes. */
  totalBytes: number | null;
  state: 'receiving' | 'waiting' | 'complete';
}

interface Running {
  abort: AbortController;
  ended: Promise<unknown>;
  receivedBytes: number;
  totalBytes: number | null;
}

/** Each writes to a pool all the time. */
const maxRunning = 4;

/** The files of DiskImages that people send to this node, one for each DiskImage at a time. */
export class ImageUploads {
  readonly #options: ImageUploadsOptions;
  readonly #running = new Map<string, Running>();

  constructor(options: ImageUploadsOptions) {
    this.#options = options;
  }

  get isEnabled(): boolean {
    return this.#options.isEnabled;
  }

  async look(key: string, pool: ServedPool, image: AwaitedImage): Promise<UploadState> {
    const running = this.#running.get(key);
    if (running) return { receivedBytes: running.receivedBytes, totalBytes: running.totalBytes, state: 'receiving' };
    const kept = await keptUpload(pool.context.pool, image);
    const state = kept?.complete ? 'complete' : 'waiting';
    return { receivedBytes: kept?.offsetBytes ?? 0, totalBytes: null, state };
  }

  /** What takes the file, or what is missing of it. @throws LaminaError `busy` where somebody sends it already, or all of it is there */
  async sink(key: string, pool: ServedPool, image: AwaitedImage): Promise<UploadSink> {
    const kept = await keptUpload(pool.context.pool, image);
    if (kept?.complete) throw new LaminaError('busy', 'all of it has come, and is being made into the disk image');
    return new Sink(kept?.offsetBytes ?? 0, (bytes, part) => this.#take(key, pool, { image, bytes, part }));
  }

  /** Breaks off what comes for a DiskImage. Fine where nothing does. */
  async abort(key: string): Promise<void> {
    const running = this.#running.get(key);
    running?.abort.abort(new Error('the upload is not wanted any more'));
    await running?.ended.catch(() => {});
  }

  /** Breaks off all; what has come is gone on with later. Nothing may begin any more. */
  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((key) => this.abort(key)));
  }

  async #take(
    key: string,
    pool: ServedPool,
    { image, bytes, part }: { image: AwaitedImage; bytes: AsyncIterable<Buffer>; part: UploadPart },
  ): Promise<number> {
    if (this.#running.has(key)) throw new LaminaError('busy', 'somebody else is sending it at this moment');
    if (this.#running.size >= maxRunning) {
      throw new LaminaError('busy', `${maxRunning} uploads are running on this node already; try again later`);
    }
    const abort = new AbortController();
    const { fromBytes: receivedBytes, totalBytes } = part;
    const running: Running = { abort, ended: Promise.resolve(), receivedBytes, totalBytes };
    this.#running.set(key, running);
    this.#options.onChange(key);
    const onProgress = (received: number) => (running.receivedBytes = received);
    const { isEnabled: _, onChange, ...common } = this.#options;
    const signal = AbortSignal.any([part.signal, abort.signal]);
    const received = receiveUpload(importContextOf(common, pool), image, bytes, { ...part, signal, onProgress });
    running.ended = received;
    try {
      await received;
      return running.receivedBytes;
    } finally {
      this.#running.delete(key);
      onChange(key);
    }
  }
}

class Sink implements UploadSink {
  receivedBytes: number;
  readonly #take: (bytes: AsyncIterable<Buffer>, part: UploadPart) => Promise<number>;

  constructor(receivedBytes: number, take: (bytes: AsyncIterable<Buffer>, part: UploadPart) => Promise<number>) {
    this.receivedBytes = receivedBytes;
    this.#take = take;
  }

  async take(bytes: AsyncIterable<Buffer>, part: UploadPart): Promise<void> {
    this.receivedBytes = await this.#take(bytes, part);
  }
}
