import { readFile } from 'node:fs/promises';
import type { Clock } from '../../lib/clock.ts';

/** As client-go: service account tokens are replaced long before they expire. */
const maxAgeMs = 60_000;

/** A small file that is replaced now and then, such as a token or a CA bundle; read again when it may have changed. */
export class FileSource {
  readonly path: string;
  readonly #clock: Clock;
  #content: { text: string; readAtMs: number } | undefined;

  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
  }

  /** The content, not more than a minute old. Errors of the file system come as they are. */
  async read(): Promise<string> {
    const nowMs = this.#clock.elapsedMs();
    if (!this.#content || nowMs - this.#content.readAtMs >= maxAgeMs) {
      this.#content = { text: await readFile(this.path, 'utf8'), readAtMs: nowMs };
    }
    return this.#content.text;
  }

  /** Has the next `read` look at the file. */
  forget(): void {
    this.#content = undefined;
  }
}
