/** Keys of objects by the values under which they are found. */
export class ObjectIndex {
  /** Most values have one object only, and a Set takes far more than its key. */
  readonly #keys = new Map<string, string | Set<string>>();

  get(value: string): string[] {
    const keys = this.#keys.get(value);
    if (keys === undefined) return [];
    return typeof keys === 'string' ? [keys] : [...keys];
  }

  add(value: string, key: string): void {
    const keys = this.#keys.get(value);
    if (keys === undefined) this.#keys.set(value, key);
    else if (typeof keys !== 'string') keys.add(key);
    else if (keys !== key) this.#keys.set(value, new Set([keys, key]));
  }

  remove(value: string, key: string): void {
    const keys = this.#keys.get(value);
    if (keys === undefined) return;
    if (typeof keys !== 'string') keys.delete(key);
    if (keys === key || (typeof keys !== 'string' && keys.size === 0)) this.#keys.delete(value);
  }
}
