import { LaminaError } from './errors.ts';

/** Mutual exclusion per key, first come first served. Holds nothing for keys that nobody uses. */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>();

  isHeld(key: string): boolean {
    return this.#tails.has(key);
  }

  /** Runs `work` once all earlier holders of `key` are done. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    const { promise: tail, resolve: release } = Promise.withResolvers<void>();
    this.#tails.set(key, tail);
    await before;
    try {
      return await work();
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
      release();
    }
  }

  /** `run` for several keys, taken in the order of their names, so that two callers never wait for each other. */
  async runAll<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const [first, ...rest] = [...new Set(keys)].sort();
    return first === undefined ? work() : this.run(first, () => this.runAll(rest, work));
  }

  /** Runs `work` now, or throws `busy` where somebody holds `key`. */
  async tryRun<T>(key: string, work: () => Promise<T>): Promise<T> {
    if (this.isHeld(key)) {
      throw new LaminaError('busy', `another operation on ${key} is still running; try again`);
    }
    return this.run(key, work);
  }
}
