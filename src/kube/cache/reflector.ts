import { settledOrAborted } from '../../lib/abort.ts';
import { Backoff } from '../../lib/backoff.ts';
import { type Clock, pause } from '../../lib/clock.ts';
import { isLaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { ApiError, isExpired, isUnreachable, retryAfterMsOf } from '../client/api-error.ts';
import type { KubeClient } from '../client/client.ts';
import { listPages } from '../client/list.ts';
import { type Change, type Decoded, type Indexer, MutableObjectCache, type ObjectCache } from './object-cache.ts';
import { type KubeObject, keyOf } from '../objects.ts';
import { collectionPath, decodeObject, metadataOf, type ResourceType } from '../client/resource-type.ts';
import { type WatchEvent, watchEvents } from '../client/watch.ts';

export interface ReflectorOptions<T extends KubeObject> {
  client: KubeClient;
  type: ResourceType<T>;
  clock: Clock;
  random: () => number;
  logger: Logger;
  /** All namespaces unless given. */
  namespace?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
  indexers?: Readonly<Record<string, Indexer<T>>>;
  observer?: ReflectorObserver;
  /** The type need not be installed, or granted: that is no failure, and looked at again now and then. */
  optional?: boolean;
}

/** What metrics are made of. */
export interface ReflectorObserver {
  /** All objects were listed: at first, and whenever a watch cannot be gone on with. */
  observeList(list: { kind: string }): void;
  /** A list or watch failed, and is tried again. */
  observeWatchFailure(failure: { kind: string }): void;
}

/** Called for every change, in order; must not block. */
export type ChangeListener<T> = (change: Change<T>) => void;

/** As client-go: the API server's load is spread, and a connection does not live for ever. */
const shortestWatchSeconds = 290;
/** Three of the API server's bookmarks are missing. */
const maxSilenceMs = 190_000;
/** A watch that ends earlier counts as a failure, so that a server that always ends it at once is not hammered. */
const shortestGoodWatchMs = 1000;
/** Failures in a row after which a watch is not resumed any more: a list tells what is wrong, and sets it right. */
const maxResumes = 5;

/**
 * Keeps a cache of the objects of one type: lists them, then follows their changes, for as long as `run` runs, whatever
 * happens to the API server. While it cannot be reached the cache stays as it was.
 */
export class Reflector<T extends KubeObject> {
  readonly type: ResourceType<T>;
  readonly #options: ReflectorOptions<T>;
  readonly #cache: MutableObjectCache<T>;
  readonly #listeners = new Set<ChangeListener<T>>();
  /** Of those who care for one object each. */
  readonly #keyListeners = new Map<string, Set<ChangeListener<T>>>();
  readonly #backoff: Backoff;
  /** Between looks at a type that is not there. */
  readonly #absence: Backoff;
  readonly #synced = Promise.withResolvers<void>();
  #hasSynced = false;
  /** Since anything was heard of a watch. */
  #hasExpired = false;

  constructor(options: ReflectorOptions<T>) {
    this.type = options.type;
    this.#options = options;
    this.#cache = new MutableObjectCache(options.indexers);
    this.#backoff = new Backoff({ baseMs: 500, maxMs: 30_000, jitter: 1, random: options.random });
    this.#absence = new Backoff({ baseMs: 1000, maxMs: 60_000, jitter: 0.2, random: options.random });
  }

  get cache(): ObjectCache<T> {
    return this.#cache;
  }

  /** Whether the cache has had all objects once. Before that, nothing may be concluded from what is not in it. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** Resolves when `hasSynced`, or when `signal` aborts. */
  async whenSynced(signal: AbortSignal): Promise<void> {
    await settledOrAborted(this.#synced.promise, signal);
  }

  /** Has `listener` called for each object that is there, and for each change from now on. @returns a function that ends that */
  subscribe(listener: ChangeListener<T>): () => void {
    this.#listeners.add(listener);
    for (const object of this.#cache.list()) this.#tell(listener, { key: keyOf(object.metadata), after: object });
    return () => this.#listeners.delete(listener);
  }

  /** Has `listener` called for each change of one object from now on. @returns a function that ends that */
  subscribeTo(key: string, listener: ChangeListener<T>): () => void {
    const listeners = this.#keyListeners.get(key) ?? new Set();
    this.#keyListeners.set(key, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#keyListeners.get(key) === listeners) this.#keyListeners.delete(key);
    };
  }

  /** Works until `signal` aborts. Never throws for what the API server does. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const resourceVersion = await this.#list(signal);
        this.#appeared();
        this.#hasSynced = true;
        this.#synced.resolve();
        await this.#follow(resourceVersion, signal);
      } catch (error) {
        if (!signal.aborted) await this.#recover(error, signal);
      }
    }
  }

  /** @returns the version that the list is of */
  async #list(signal: AbortSignal): Promise<string> {
    const { client, type, namespace, labelSelector, fieldSelector } = this.#options;
    const keys = new Set<string>();
    let resourceVersion = '';
    const path = collectionPath(type, namespace);
    for await (const page of listPages({ client, path, selectors: { labelSelector, fieldSelector }, signal })) {
      if (page.isFirst) keys.clear();
      for (const item of page.items) {
        const entry = this.#decode(item);
        keys.add('object' in entry ? keyOf(entry.object.metadata) : entry.key);
        this.#put(entry);
      }
      resourceVersion = page.resourceVersion;
    }
    for (const change of this.#cache.retain(keys)) this.#emit(change);
    this.#options.observer?.observeList({ kind: type.kind });
    return resourceVersion;
  }

  /** Watches, again and again. @throws where only a new list can help */
  async #follow(fromVersion: string, signal: AbortSignal): Promise<void> {
    let resourceVersion = fromVersion;
    while (!signal.aborted) {
      const startMs = this.#options.clock.elapsedMs();
      try {
        for await (const event of this.#watch(resourceVersion, signal)) {
          resourceVersion = this.#take(event);
          this.#recovered();
        }
        const durationMs = this.#options.clock.elapsedMs() - startMs;
        if (durationMs < shortestGoodWatchMs) throw new ApiError('the watch ended as soon as it began', {});
        this.#recovered();
      } catch (error) {
        if (signal.aborted) return;
        if (!canResume(error) || (!isUnreachable(error) && this.#backoff.failures >= maxResumes)) throw error;
        await this.#recover(error, signal);
      }
    }
  }

  #watch(resourceVersion: string, signal: AbortSignal): AsyncGenerator<WatchEvent> {
    const { client, clock, type, namespace, labelSelector, fieldSelector, random } = this.#options;
    return watchEvents({
      client,
      clock,
      path: collectionPath(type, namespace),
      selectors: { labelSelector, fieldSelector },
      resourceVersion,
      timeoutSeconds: Math.round(shortestWatchSeconds * (1 + random())),
      maxSilenceMs,
      signal,
    });
  }

  /** @returns the version after the event */
  #take({ type, object }: WatchEvent): string {
    if (type === 'BOOKMARK') return versionOfBookmark(object);
    const { resourceVersion, ...metadata } = metadataOf(object, this.type.kind);
    if (type === 'DELETED') this.#emit(this.#cache.remove(keyOf(metadata)));
    else this.#put(this.#decode(object));
    return resourceVersion;
  }

  #decode(json: unknown): Decoded<T> {
    try {
      return { object: decodeObject(this.type, json) };
    } catch (error) {
      if (!isLaminaError(error, 'resource-invalid')) throw error;
      const { resourceVersion, ...metadata } = metadataOf(json, this.type.kind);
      return { key: keyOf(metadata), resourceVersion, invalid: error };
    }
  }

  #put(entry: Decoded<T>): void {
    const change = this.#cache.put(entry);
    if (change && 'invalid' in entry) {
      this.#options.logger.error(
        { error: entry.invalid, key: entry.key },
        'an object is not understood, and left alone',
      );
    }
    this.#emit(change);
  }

  #emit(change: Change<T> | undefined): void {
    if (!change) return;
    for (const listener of this.#listeners) this.#tell(listener, change);
    for (const listener of this.#keyListeners.get(change.key) ?? []) this.#tell(listener, change);
  }

  #tell(listener: ChangeListener<T>, change: Change<T>): void {
    try {
      listener(change);
    } catch (error) {
      this.#options.logger.error({ error, kind: this.type.kind, key: change.key }, 'a listener failed');
    }
  }

  /** Waits before the next try; not at all for an expiry, which is a normal event unless it follows another. */
  async #recover(error: unknown, signal: AbortSignal): Promise<void> {
    const { logger, clock, observer, optional } = this.#options;
    const fields = { error, kind: this.type.kind };
    if (optional && isAbsent(error)) {
      const delayMs = this.#absence.next();
      if (this.#absence.failures === 1) logger.info(fields, 'going on without objects that cannot be had here');
      return pause(clock, delayMs, signal);
    }
    if (isExpired(error) && !this.#hasExpired) {
      this.#hasExpired = true;
      return logger.debug(fields, 'the watch has expired');
    }
    observer?.observeWatchFailure({ kind: this.type.kind });
    const delayMs = Math.max(this.#backoff.next(), retryAfterMsOf(error));
    if (this.#backoff.failures === 1) logger.warn(fields, 'cannot list or watch; trying again');
    else logger.debug(fields, 'still cannot list or watch');
    await pause(clock, delayMs, signal);
  }

  #appeared(): void {
    if (this.#absence.failures > 0) this.#options.logger.info({ kind: this.type.kind }, 'the objects can be had now');
    this.#absence.reset();
  }

  #recovered(): void {
    if (this.#backoff.failures > 0) this.#options.logger.info({ kind: this.type.kind }, 'watching again');
    this.#backoff.reset();
    this.#hasExpired = false;
  }
}

/** Whether the changes since the last known version can still be asked for. */
function canResume(error: unknown): boolean {
  if (isLaminaError(error, 'timeout') || isUnreachable(error)) return true;
  if (!(error instanceof ApiError)) return false;
  const { status = 0, causes } = error.failure;
  // Etcd was restored from a backup: the version that we know is of a future that does not come.
  if (causes?.includes('ResourceVersionTooLarge')) return false;
  return status === 401 || status === 429 || status >= 500;
}

/** Whether the API server knows no such type, or keeps it from us. */
function isAbsent(error: unknown): boolean {
  return error instanceof ApiError && (error.failure.status === 404 || error.failure.status === 403);
}

function versionOfBookmark(object: unknown): string {
  const version = (object as { metadata?: { resourceVersion?: unknown } } | null)?.metadata?.resourceVersion;
  if (typeof version === 'string' && version !== '') return version;
  throw new ApiError('the API server sent a bookmark without a resourceVersion', { status: 502 });
}
