import { open, readFile, stat } from 'node:fs/promises';
import { pollUntil } from '../../src/lib/poll.ts';

const recordBytes = 4096;

/** An application that appends numbered records to a file, each on disk (fdatasync) before the next. */
export class Writer {
  readonly file: string;
  /** Records that are on disk. */
  acknowledged = 0;
  /** Longest time between two of them since `resetPause`. */
  longestPauseMs = 0;
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(file: string) {
    this.file = file;
    this.#done = this.#write();
    // `stop` tells; a writer that is never stopped has failed with the rest.
    this.#done.catch(() => {});
  }

  resetPause(): void {
    this.longestPauseMs = 0;
  }

  /** Resolves when `more` further records are on disk. @throws where that does not happen within half a minute */
  async goesOn(more: number): Promise<void> {
    const goal = this.acknowledged + more;
    const reached = () => this.acknowledged >= goal;
    if (await pollUntil(reached, { timeoutMs: 30_000, intervalMs: 5 })) return;
    throw new Error(`the writer of ${this.file} stands still at ${this.acknowledged} records`);
  }

  /** @throws what failed in writing */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  async #write(): Promise<void> {
    const handle = await open(this.file, 'w');
    try {
      let last = performance.now();
      while (!this.#stopped) {
        await handle.write(record(this.acknowledged));
        await handle.datasync();
        this.acknowledged++;
        const now = performance.now();
        this.longestPauseMs = Math.max(this.longestPauseMs, now - last);
        last = now;
      }
    } finally {
      await handle.close();
    }
  }
}

/** Checks every record of a writer's file. @returns how many there are. @throws where one is wrong, or fewer than `least` are there */
export async function countRecords(file: string, least: number): Promise<number> {
  const { size } = await stat(file);
  const content = await readFile(file);
  const count = size / recordBytes;
  for (let sequence = 0; sequence < count; sequence++) {
    const found = content.subarray(sequence * recordBytes, (sequence + 1) * recordBytes);
    if (!found.equals(record(sequence))) throw new Error(`${file}: record ${sequence} is not what was written`);
  }
  if (count < least) throw new Error(`${file}: ${count} records are there, ${least} were on disk before`);
  return count;
}

/** Runs `work` while a writer is at work on `file`, and ends it. @throws what failed in either */
export async function whileWriting<T>(file: string, work: (writer: Writer) => Promise<T>): Promise<T> {
  const writer = new Writer(file);
  try {
    const value = await work(writer);
    await writer.stop();
    return value;
  } catch (error) {
    await writer.stop().catch(() => {});
    throw error;
  }
}

function record(sequence: number): Buffer {
  return Buffer.alloc(recordBytes, `record ${sequence} `);
}
