import { addingUp, observed, type UnderWay } from '../../lib/under-way.ts';
import { discardImport, importImage } from '../../transfer/import/import-image.ts';
import type { ImportContext, ImportProgress, ImportRequest } from '../../transfer/import/import-request.ts';
import { BackgroundJobs, type JobState } from './background-jobs.ts';
import type { ServedPool } from './node-pools.ts';

/** What imports into all pools of a node share. */
export type CommonImportContext = Omit<ImportContext, 'pool' | 'space' | 'lock'>;

export function importContextOf(common: CommonImportContext, { context, images }: ServedPool): ImportContext {
  const { pool, space } = context;
  return { ...common, pool, space, lock: (imageId, work) => images.lock(imageId, work) };
}

export interface ImageImportsOptions extends CommonImportContext {
  /** Called with the key of a DiskImage whose import has ended, well or not. */
  onEnded: (key: string) => void;
  random: () => number;
  /** Called for each import that begins; not of what was uploaded, which does not go over the network again. */
  begin: (kind: 'import') => UnderWay;
}

const longestDelayMs = 60_000;

/** The imports of this node, one for each DiskImage. */
export class ImageImports {
  readonly #options: ImageImportsOptions;
  readonly #jobs: BackgroundJobs<ImportProgress>;

  constructor(options: ImageImportsOptions) {
    this.#options = options;
    this.#jobs = new BackgroundJobs({ ...options, longestDelayMs });
  }

  /** Begins an import where `look` knows of none. It has made the image when nothing is known of it any more. */
  start(key: string, pool: ServedPool, request: Omit<ImportRequest, 'signal' | 'onProgress'>): void {
    this.#jobs.start(key, { stage: 'waiting', doneBytes: 0, totalBytes: null }, (signal, onProgress) => {
      const context = this.#contextOf(pool);
      if (request.source.kind === 'upload') return importImage(context, { ...request, signal, onProgress });
      return observed(this.#options.begin('import'), signal, (addBytes) => {
        const count = addingUp(addBytes);
        const tell = (progress: ImportProgress) => {
          if (progress.stage === 'downloading') count(progress.doneBytes);
          onProgress(progress);
        };
        return importImage(context, { ...request, signal, onProgress: tell });
      });
    });
  }

  /** Whether an import runs, or has failed and is not to be begun again yet. */
  has(key: string): boolean {
    return this.#jobs.has(key);
  }

  look(key: string): JobState<ImportProgress> | undefined {
    return this.#jobs.look(key);
  }

  /** Ends an import; what has come is kept. Idempotent. */
  async abort(key: string): Promise<void> {
    await this.#jobs.abort(key);
  }

  /** Ends an import and removes what has come of it. Idempotent. */
  async discard(key: string, pool: ServedPool, name: string): Promise<void> {
    await this.#jobs.abort(key);
    await discardImport(this.#contextOf(pool), name);
  }

  /** Ends all imports; what has come is gone on with at the next start. */
  async stop(): Promise<void> {
    await this.#jobs.stop();
  }

  #contextOf(pool: ServedPool): ImportContext {
    const { onEnded: _, begin: __, random: ___, ...common } = this.#options;
    return importContextOf(common, pool);
  }
}
