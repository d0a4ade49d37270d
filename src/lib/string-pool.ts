const maxStrings = 8192;

/** Gives one and the same string for equal ones, as far as it remembers: objects that are kept share most of their words. */
export class StringPool {
  readonly #known = new Map<string, string>();

  shared(text: string): string {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    // What is used often is soon here again.
    if (this.#known.size >= maxStrings) this.#known.clear();
    this.#known.set(text, text);
    return text;
  }
}
