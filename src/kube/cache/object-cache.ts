import { LaminaError } from '../../lib/errors.ts';
import { StringPool } from '../../lib/string-pool.ts';
import { ObjectIndex } from './object-index.ts';
import { type KubeObject, keyOf } from '../objects.ts';

/** The values under which an object is found in an index. */
export type Indexer<T> = (object: T) => readonly string[];

/** What became of an object: made (no `before`), changed, or gone (no `after`). For one that is not understood both are missing, as far as it is not. */
export interface Change<T> {
  key: string;
  before?: T | undefined;
  after?: T | undefined;
}

/** The objects of one type, as they were a moment ago. They are frozen: whoever wants one changed asks the API server. */
export interface ObjectCache<T extends KubeObject> {
  readonly size: number;
  /** @throws LaminaError `resource-invalid` for an object that is there, but could not be understood */
  get(key: string): T | undefined;
  /** Whether there is such an object, understood or not. */
  has(key: string): boolean;
  /** All that are understood. Those that are not, `has` and `keys` tell of. */
  list(): T[];
  /** Of all objects, understood or not. */
  keys(): string[];
  byIndex(index: string, value: string): T[];
}

/** An object that was sent, or the reason why it could not be understood. */
export type Decoded<T> = { object: T } | { key: string; resourceVersion: string; invalid: LaminaError };

/** An ObjectCache and the ways to fill it, which are the reflector's alone. */
export class MutableObjectCache<T extends KubeObject> implements ObjectCache<T> {
  readonly #entries = new Map<string, Decoded<T>>();
  readonly #indexers: Readonly<Record<string, Indexer<T>>>;
  readonly #indexes = new Map<string, ObjectIndex>();
  readonly #strings = new StringPool();

  constructor(indexers: Readonly<Record<string, Indexer<T>>> = {}) {
    this.#indexers = indexers;
    for (const index of Object.keys(indexers)) this.#indexes.set(index, new ObjectIndex());
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): T | undefined {
    const entry = this.#entries.get(key);
    if (entry && 'invalid' in entry) throw entry.invalid;
    return entry?.object;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  list(): T[] {
    return [...this.#entries.values()].flatMap((entry) => ('object' in entry ? [entry.object] : []));
  }

  keys(): string[] {
    return [...this.#entries.keys()];
  }

  byIndex(index: string, value: string): T[] {
    const keys = this.#indexes.get(index);
    if (!keys) throw new LaminaError('invalid-parameter', `there is no index '${index}' in this cache`);
    return keys.get(value).flatMap((key) => this.#understood(key) ?? []);
  }

  /** Takes in an object that is new or changed. @returns what changed, undefined where it was known in this version */
  put(entry: Decoded<T>): Change<T> | undefined {
    const key = keyOfEntry(entry);
    const earlier = this.#entries.get(key);
    if (earlier && versionOf(earlier) === versionOf(entry)) return undefined;
    const before = this.#unindex(key);
    this.#entries.set(key, entry);
    if ('invalid' in entry) return { key, before };
    keep(entry.object, this.#strings);
    this.#index(key, entry.object);
    return { key, before, after: entry.object };
  }

  remove(key: string): Change<T> | undefined {
    if (!this.#entries.has(key)) return undefined;
    const before = this.#unindex(key);
    this.#entries.delete(key);
    return { key, before };
  }

  /** Removes all objects that are not among `keys`, after a complete list. */
  retain(keys: ReadonlySet<string>): Change<T>[] {
    return this.keys().flatMap((key) => (keys.has(key) ? [] : (this.remove(key) ?? [])));
  }

  #understood(key: string): T | undefined {
    const entry = this.#entries.get(key);
    return entry && 'object' in entry ? entry.object : undefined;
  }

  #index(key: string, object: T): void {
    for (const [index, indexer] of Object.entries(this.#indexers)) {
      for (const value of indexer(object)) this.#indexes.get(index)?.add(value, key);
    }
  }

  /** @returns the object as it was */
  #unindex(key: string): T | undefined {
    const object = this.#understood(key);
    if (!object) return undefined;
    for (const [index, indexer] of Object.entries(this.#indexers)) {
      for (const value of indexer(object)) this.#indexes.get(index)?.remove(value, key);
    }
    return object;
  }
}

function keyOfEntry<T extends KubeObject>(entry: Decoded<T>): string {
  return 'object' in entry ? keyOf(entry.object.metadata) : entry.key;
}

function versionOf<T extends KubeObject>(entry: Decoded<T>): string | undefined {
  return 'object' in entry ? entry.object.metadata.resourceVersion : entry.resourceVersion;
}

/** Freezes a value and all that is in it, with equal strings kept once. */
function keep(value: object, strings: StringPool): void {
  if (Object.isFrozen(value)) return;
  for (const [name, member] of Object.entries(value)) {
    if (typeof member === 'string') (value as Record<string, string>)[name] = strings.shared(member);
    else if (typeof member === 'object' && member !== null) keep(member, strings);
  }
  Object.freeze(value);
}
