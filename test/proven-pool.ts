import { cpSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { assemblePool } from './assembled-pool.ts';
import { removeDirectory, temporaryDirectory } from './detached-pool.ts';
import { leaksOfStopped } from './leaks.ts';

/**
 * An empty pool, and what the self-test found out of its file system: a test that gets a copy of both need not wait for
 * the self-test, which has tests of its own.
 */
export class ProvenPool {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** For pools below temporary directories. */
  static async make(): Promise<ProvenPool> {
    const directory = temporaryDirectory();
    const [pool, runDir] = [path.join(directory, 'pool'), path.join(directory, 'run')];
    mkdirSync(pool);
    await (await assemblePool(pool, runDir)).release();
    const leaks = await leaksOfStopped(directory);
    if (leaks.length > 0) throw new Error(`left behind: ${leaks.join(', ')}`);
    return new ProvenPool(directory);
  }

  /** As `pool` and `run` in `directory`. */
  copyTo(directory: string): void {
    cpSync(path.join(this.#directory, 'pool'), path.join(directory, 'pool'), { recursive: true });
    for (const id of readdirSync(path.join(this.#directory, 'run'))) {
      const outcome = path.join('run', id, 'data-path.json');
      cpSync(path.join(this.#directory, outcome), path.join(directory, outcome));
    }
  }

  remove(): void {
    removeDirectory(this.#directory);
  }
}
