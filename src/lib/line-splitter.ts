import { LaminaError } from './errors.ts';

const newline = 0x0a;

/** Cuts a stream of bytes into lines. Decodes whole lines only, so a character split between chunks stays whole. */
export class LineSplitter {
  readonly #maxLineBytes: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
  }

  /** @returns the lines that `chunk` completes, without their ends. @throws LaminaError `invalid-parameter` for an endless line. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let rest = chunk;
    for (let end = rest.indexOf(newline); end !== -1; end = rest.indexOf(newline)) {
      lines.push(this.#complete(rest.subarray(0, end)));
      rest = rest.subarray(end + 1);
    }
    this.#keep(rest);
    return lines;
  }

  #complete(last: Buffer): string {
    this.#keep(last);
    const line = Buffer.concat(this.#parts).toString('utf8').trimEnd();
    this.#parts = [];
    this.#bytes = 0;
    return line;
  }

  #keep(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#bytes > this.#maxLineBytes) {
      throw new LaminaError(
        'invalid-parameter',
        `a peer sent more than ${this.#maxLineBytes} bytes without an end of line`,
      );
    }
    if (part.length > 0) this.#parts.push(part);
  }
}
