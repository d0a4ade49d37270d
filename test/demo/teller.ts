const width = 72;

/** Tells the story on standard output: numbered steps, each with how long it took and what is worth knowing. */
export class Teller {
  readonly #write: (text: string) => void;
  readonly #signal: AbortSignal;
  #count = 0;

  /** @param signal no further step begins once it is aborted */
  constructor(write: (text: string) => void, signal: AbortSignal) {
    this.#write = write;
    this.#signal = signal;
  }

  say(text = ''): void {
    this.#write(`${text}\n`);
  }

  /** Runs a step; what it returns are the lines that are told below it. */
  async step(title: string, work: () => Promise<readonly string[]>): Promise<void> {
    this.#signal.throwIfAborted();
    const start = performance.now();
    const line = `${String(++this.#count).padStart(2)}  ${title} `;
    this.#write(line);
    try {
      const told = await work();
      this.#write(`${dots(line)} ${formatDuration(performance.now() - start)}\n`);
      for (const text of told) this.say(`    ${text}`);
    } catch (error) {
      this.#write(`${dots(line)} FAILED\n`);
      throw error;
    }
  }
}

export function formatDuration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function dots(line: string): string {
  return '.'.repeat(Math.max(width - line.length, 3));
}
