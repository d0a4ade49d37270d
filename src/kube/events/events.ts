import type { Clock } from '../../lib/clock.ts';
import { isLaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { isObjectMissing } from '../client/api-error.ts';
import type { KubeClient } from '../client/client.ts';
import { EventBudget } from './event-budget.ts';
import {
  type EventSeries,
  eventManifest,
  eventNamespace,
  eventType,
  seriesKey,
  seriesPatch,
  subjectKey,
} from './event-series.ts';
import type { KubeObject } from '../objects.ts';
import { ResourceClient } from '../client/resource-client.ts';

/** What has happened to an object, for the people who use it. */
export interface EventNote {
  type: 'Normal' | 'Warning';
  /** One word for programs: `Created`, `PoolFull`. */
  reason: string;
  /** What we did or tried, in one word: `Create`, `Place`. */
  action: string;
  /** For people; cut off after 1024 bytes. Repetitions are counted only where it is the same. */
  note: string;
}

/** What an event is about. */
export interface EventSubject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string | undefined; uid?: string | undefined };
}

/** Tells people what happens to their objects, in `kubectl describe` and `kubectl get events`. */
export interface EventRecorder {
  /** Returns at once. The event is sent later, repetitions as a count, or not at all where there are too many. */
  record(subject: EventSubject, note: EventNote): void;
}

export interface EventSenderOptions {
  client: KubeClient;
  clock: Clock;
  logger: Logger;
  /** `csi.lamina.storage/controller` */
  reportingController: string;
  /** The pod or the host; at most 128 characters. */
  reportingInstance: string;
  observer?: EventObserver;
}

/** What metrics are made of. */
export interface EventObserver {
  /** An event is never sent: too many of one object, or the API server did not take it. */
  observeDroppedEvent(event: { why: 'too-many' | 'refused' }): void;
}

/** Repetitions within this time belong to one series. */
const seriesMs = 10 * 60_000;
const maxSeries = 2000;
/** Repetitions, and what could not be sent, wait for this long. */
const collectMs = 10_000;
const maxTries = 3;

/** Sends events to the API server, one after the other, beside all other work. */
export class EventSender implements EventRecorder {
  readonly #options: EventSenderOptions;
  readonly #events: ResourceClient<KubeObject>;
  readonly #budget: EventBudget;
  /** By seriesKey; those that were seen last come last. */
  readonly #series = new Map<string, EventSeries>();
  /** To be sent at once. */
  readonly #fresh = new Set<EventSeries>();
  /** To be sent with the next tick: repetitions, and what could not be sent. */
  readonly #waiting = new Set<EventSeries>();
  #flushing: Promise<void> | undefined;
  #cancelTick: (() => void) | undefined;
  #isStopped = false;

  constructor(options: EventSenderOptions) {
    const { client, clock } = options;
    this.#options = options;
    this.#budget = new EventBudget(clock);
    this.#events = new ResourceClient(client, eventType);
  }

  record(subject: EventSubject, note: EventNote): void {
    if (this.#isStopped) return;
    const series = this.#count(subject, note);
    if (!series || this.#fresh.has(series)) return;
    if (series.count === 1) this.#fresh.add(series);
    else this.#wait(series);
    this.#flush();
  }

  /** Takes no more events, and sends those that wait, as far as the API server takes them at once. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelTick?.();
    this.#tick();
    while (this.#flushing) await this.#flushing;
  }

  /** @returns undefined where the subject has had too many events */
  #count(subject: EventSubject, note: EventNote): EventSeries | undefined {
    const { clock } = this.#options;
    const key = seriesKey(subject, note);
    const lastElapsedMs = clock.elapsedMs();
    const known = this.#series.get(key);
    if (known && lastElapsedMs - known.lastElapsedMs < seriesMs) {
      this.#series.delete(key);
      this.#series.set(key, known);
      return Object.assign(known, { count: known.count + 1, lastAt: clock.now(), lastElapsedMs });
    }
    if (!this.#budget.take(subjectKey(subject))) {
      this.#options.observer?.observeDroppedEvent({ why: 'too-many' });
      return undefined;
    }
    const now = clock.now();
    const series = { subject, note, firstAt: now, lastAt: now, lastElapsedMs, count: 1, sent: undefined, failures: 0 };
    this.#series.set(key, series);
    const [oldest] = this.#series.keys();
    if (this.#series.size > maxSeries && oldest !== undefined) this.#series.delete(oldest);
    return series;
  }

  #flush(): void {
    this.#flushing ??= this.#sendAll().finally(() => {
      this.#flushing = undefined;
      if (this.#fresh.size > 0) this.#flush();
    });
  }

  #wait(series: EventSeries): void {
    this.#waiting.add(series);
    if (this.#isStopped) return;
    this.#cancelTick ??= this.#options.clock.schedule(collectMs, () => this.#tick());
  }

  #tick(): void {
    this.#cancelTick = undefined;
    for (const series of this.#waiting) this.#fresh.add(series);
    this.#waiting.clear();
    this.#flush();
  }

  async #sendAll(): Promise<void> {
    for (const series of this.#fresh) {
      this.#fresh.delete(series);
      const isDone = await this.#send(series);
      if (!isDone) this.#wait(series);
    }
  }

  /** @returns whether there is nothing more to send of it */
  async #send(series: EventSeries): Promise<boolean> {
    const { count } = series;
    try {
      const name = series.sent ? await this.#update(series, series.sent.name) : await this.#create(series);
      series.sent = { name, count };
      series.failures = 0;
      return true;
    } catch (error) {
      series.failures++;
      // What is refused now, as in a namespace that is being deleted, is refused later, too.
      const isFinal = !isLaminaError(error, 'api-unavailable', 'timeout') || series.failures >= maxTries;
      const fields = { error, subject: subjectKey(series.subject), reason: series.note.reason };
      if (!isFinal) return false;
      this.#options.logger.debug(fields, 'an event could not be sent');
      this.#options.observer?.observeDroppedEvent({ why: 'refused' });
      return true;
    }
  }

  async #create(series: EventSeries): Promise<string> {
    const { reportingController, reportingInstance } = this.#options;
    const manifest = eventManifest(series, { reportingController, reportingInstance });
    return (await this.#events.create(manifest)).metadata.name;
  }

  async #update(series: EventSeries, name: string): Promise<string> {
    const namespace = eventNamespace(series.subject);
    try {
      await this.#events.mergePatch({ namespace, name }, seriesPatch(series));
      return name;
    } catch (error) {
      // The API server forgets events after an hour.
      if (!isObjectMissing(error, name)) throw error;
      return this.#create(series);
    }
  }
}
