import { settledOrAborted } from '../../lib/abort.ts';
import type { KubeObject } from '../objects.ts';
import type { Reflector } from './reflector.ts';

/**
 * Follows one object from the moment on in which this is made. Made before a write or a read of the API server, it
 * misses nothing that comes after that, though the cache may lag behind: what the API server has answered is `known`,
 * and older versions that the cache learns of later do not count.
 */
export class ObjectWatch<T extends KubeObject> implements Disposable {
  readonly #subscriptions: (() => void)[];
  readonly #gone = new Set<string | undefined>();
  #latest: T | undefined;
  #change = Promise.withResolvers<void>();

  constructor(reflector: Reflector<T>, key: string) {
    const unsubscribe = reflector.subscribeTo(key, ({ before, after }) => {
      // It is not understood any more, but there.
      if (!after && reflector.cache.has(key)) return;
      if (before && before.metadata.uid !== after?.metadata.uid) this.#gone.add(before.metadata.uid);
      this.#latest = after;
      this.#wake();
    });
    this.#subscriptions = [unsubscribe];
  }

  [Symbol.dispose](): void {
    for (const unsubscribe of this.#subscriptions) unsubscribe();
  }

  /** Has the object judged again when another one changes, too, which the verdict depends on. */
  dependOn<Other extends KubeObject>(reflector: Reflector<Other>, key: string): void {
    this.#subscriptions.push(reflector.subscribeTo(key, () => this.#wake()));
  }

  /** The object as it is known now, undefined where it is gone; one of the same name that was made since is another one. */
  stateOf(known: T): T | undefined {
    const { uid, generation = 0 } = known.metadata;
    if (this.#gone.has(uid)) return undefined;
    const latest = this.#latest?.metadata;
    return latest?.uid === uid && (latest?.generation ?? 0) >= generation ? this.#latest : known;
  }

  /**
   * Shows `judge` the object as it is known, and again whenever it or what it depends on changes, until there is a verdict.
   *
   * @returns the verdict, or undefined where `signal` aborts before
   */
  async until<Verdict>(
    known: T,
    judge: (object: T | undefined) => Verdict | undefined,
    signal: AbortSignal,
  ): Promise<Verdict | undefined> {
    for (;;) {
      const change = this.#change.promise;
      const verdict = judge(this.stateOf(known));
      if (verdict !== undefined || signal.aborted) return verdict;
      await settledOrAborted(change, signal);
    }
  }

  #wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}
