import { type ImportContext, type ImportProgress, type ImportRequest } from '../transfer/import/import-request.ts';
import { discardImport, importImage } from '../transfer/import/import-image.ts';
import type { ServedPool } from './node-pools.ts';

export interface ImageImportsOptions extends Omit<ImportContext, 'pool' | 'space' | 'lock'> {
  /** Called with the key of a DiskImage whose import has ended, well or not. */
  onEnded: (key: string) => void;
}

/** An import that goes on, or one that has failed and was not looked at since. */
export type ImportState = { kind: 'running'; progress: ImportProgress } | { kind: 'failed'; error: unknown };

interface Running {
  abort: AbortController;
  ended: Promise<void>;
  progress: ImportProgress;
}

/** The imports of this node, one for each DiskImage. They take long, and go on between the reconciles that look at them. */
export class ImageImports {
  readonly #options: ImageImportsOptions;
  readonly #running = new Map<string, Running>();
  readonly #failed = new Map<string, unknown>();

  constructor(options: ImageImportsOptions) {
    this.#options = options;
  }

  /** Begins an import, which must not be running. It has made the image when nothing is known of it any more. */
  start(key: string, pool: ServedPool, request: Omit<ImportRequest, 'signal' | 'onProgress'>): void {
    const abort = new AbortController();
    const running: Running = {
      abort,
      ended: Promise.resolve(),
      progress: { stage: 'waiting', doneBytes: 0, totalBytes: null },
    };
    const onProgress = (progress: ImportProgress) => {
      running.progress = progress;
    };
    this.#running.set(key, running);
    running.ended = this.#run(key, abort.signal, () =>
      importImage(this.#contextOf(pool), { ...request, signal: abort.signal, onProgress }),
    );
  }

  async #run(key: string, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!signal.aborted) this.#failed.set(key, error);
    } finally {
      this.#running.delete(key);
    }
    if (!signal.aborted) this.#options.onEnded(key);
  }

  /** How an import is. A failure is told once. */
  look(key: string): ImportState | undefined {
    const running = this.#running.get(key);
    if (running) return { kind: 'running', progress: running.progress };
    if (!this.#failed.has(key)) return undefined;
    const error = this.#failed.get(key);
    this.#failed.delete(key);
    return { kind: 'failed', error };
  }

  /** Ends an import and removes what has come of it. Idempotent. */
  async discard(key: string, pool: ServedPool, name: string): Promise<void> {
    await this.#abort(key);
    await discardImport(this.#contextOf(pool), name);
  }

  /** Ends all imports; what has come is gone on with at the next start. */
  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((key) => this.#abort(key)));
  }

  async #abort(key: string): Promise<void> {
    const running = this.#running.get(key);
    running?.abort.abort(new Error('the import is not wanted any more'));
    await running?.ended;
    this.#failed.delete(key);
  }

  #contextOf({ context, images }: ServedPool): ImportContext {
    const { onEnded: _, ...common } = this.#options;
    const { pool, space } = context;
    return { ...common, pool, space, lock: (imageId, work) => images.lock(imageId, work) };
  }
}
