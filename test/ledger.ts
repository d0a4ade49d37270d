import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Files written and fsynced, and what they must read as for ever. */
export class Ledger {
  readonly #sums = new Map<string, string>();

  write(file: string, sizeBytes: number): void {
    const bytes = randomBytes(sizeBytes);
    writeFileSync(file, bytes, { flush: true });
    this.#sums.set(path.basename(file), sha256(bytes));
  }

  /** What is not as it should be: a name of `present` that reads otherwise or not at all, one of `absent` that is there. */
  differences(directory: string, present: readonly string[], absent: readonly string[] = []): string[] {
    const changed = present.filter((name) => !this.#readsAsWritten(path.join(directory, name)));
    const unwanted = absent.filter((name) => existsSync(path.join(directory, name)));
    return [
      ...changed.map((name) => `${name} in ${directory} differs`),
      ...unwanted.map((name) => `${name} is in ${directory}`),
    ];
  }

  #readsAsWritten(file: string): boolean {
    const sum = this.#sums.get(path.basename(file));
    if (sum === undefined) throw new Error(`${file} was never written`);
    return existsSync(file) && sha256(readFileSync(file)) === sum;
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
