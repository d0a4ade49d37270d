import type { Clock } from '../../lib/clock.ts';
import { LaminaError } from '../../lib/errors.ts';
import { LineSplitter } from '../../lib/line-splitter.ts';
import { parseJson } from '../../lib/parse-json.ts';
import { ApiError, apiErrorOf } from './api-error.ts';
import type { KubeClient } from './client.ts';
import { interruption } from './transport.ts';

export interface WatchEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  /** As it was sent; a bookmark has a resourceVersion only. */
  object: unknown;
}

export interface WatchOptions {
  client: KubeClient;
  clock: Clock;
  path: string;
  selectors: { labelSelector?: string | undefined; fieldSelector?: string | undefined };
  resourceVersion: string;
  /** After which the API server ends the watch. */
  timeoutSeconds: number;
  /** Silence after which the connection is taken for dead; the API server sends a bookmark each minute. */
  maxSilenceMs: number;
  signal: AbortSignal;
}

/** Far more than etcd takes. */
const maxLineBytes = 16 * 1024 * 1024;
/** What the API server's end of a watch may be late. */
const graceMs = 30_000;
const types: readonly unknown[] = ['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK'];

/**
 * The changes after `resourceVersion`, until the API server ends the watch, as it does regularly.
 *
 * @throws ApiError, with isExpired where `resourceVersion` is too old and without a status where the connection broke;
 *   LaminaError `timeout` after too long a silence; the signal's reason
 */
export async function* watchEvents(options: WatchOptions): AsyncGenerator<WatchEvent, void, undefined> {
  const { client, path, selectors, resourceVersion, timeoutSeconds } = options;
  const query = { ...selectors, watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds };
  const watchdog = new Watchdog(options);
  try {
    const answer = await client.open({ method: 'GET', path, query, signal: watchdog.signal });
    const lines = new LineSplitter(maxLineBytes);
    try {
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        watchdog.heard();
        for (const line of lines.push(chunk)) {
          if (line !== '') yield parseEvent(line, path);
        }
      }
    } catch (error) {
      throw interruption(error, { method: 'watch', path, signal: watchdog.signal });
    } finally {
      answer.destroy();
    }
  } finally {
    watchdog.stop();
  }
}

function parseEvent(line: string, path: string): WatchEvent {
  const event = parseJson(line) as { type?: unknown; object?: unknown } | null | undefined;
  if (event?.type === 'ERROR') {
    const status = (event.object as { code?: unknown } | null)?.code;
    throw apiErrorOf(`watch ${path}`, typeof status === 'number' ? status : 500, JSON.stringify(event.object));
  }
  if (!types.includes(event?.type)) {
    const words = JSON.stringify(line.slice(0, 100));
    throw new ApiError(`watch ${path}: the API server sent what is no event: ${words}`, { status: 502 });
  }
  return event as WatchEvent;
}

/** Aborts a watch on which nothing is heard any more, because its peer may have vanished without a word. */
class Watchdog {
  readonly #controller = new AbortController();
  readonly #options: WatchOptions;
  readonly #forward: () => void;
  readonly #cancelEnd: () => void;
  #cancelSilence: () => void;

  constructor(options: WatchOptions) {
    const { clock, signal, timeoutSeconds, path } = options;
    this.#options = options;
    this.#forward = () => this.#controller.abort(signal.reason);
    if (signal.aborted) this.#forward();
    signal.addEventListener('abort', this.#forward, { once: true });
    this.#cancelEnd = clock.schedule(timeoutSeconds * 1000 + graceMs, () => {
      this.#controller.abort(new LaminaError('timeout', `watch ${path}: it goes on beyond its time`));
    });
    this.#cancelSilence = this.#awaitSilence();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    this.#cancelSilence();
    this.#cancelSilence = this.#awaitSilence();
  }

  stop(): void {
    this.#cancelSilence();
    this.#cancelEnd();
    this.#options.signal.removeEventListener('abort', this.#forward);
  }

  #awaitSilence(): () => void {
    const { clock, maxSilenceMs, path } = this.#options;
    return clock.schedule(maxSilenceMs, () => {
      this.#controller.abort(new LaminaError('timeout', `watch ${path}: nothing was heard for ${maxSilenceMs} ms`));
    });
  }
}
