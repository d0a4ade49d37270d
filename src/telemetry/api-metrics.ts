import { Counter, type Registry } from 'prom-client';

/** What is between us and the API server; has the form of the observers of reflectors and of the sender of events. */
export interface ApiMetrics {
  /** All objects of a kind were listed. */
  readonly observeList: (list: { kind: string }) => void;
  /** A list or watch failed, and is tried again. */
  readonly observeWatchFailure: (failure: { kind: string }) => void;
  /** An event is never sent. */
  readonly observeDroppedEvent: (event: { why: 'too-many' | 'refused' }) => void;
}

export function apiMetrics(registry: Registry): ApiMetrics {
  const registers = [registry];
  const lists = new Counter({
    name: 'lamina_lists_total',
    help: 'Complete lists of the objects of a kind: one at the start, and one whenever a watch cannot be gone on with.',
    labelNames: ['kind'],
    registers,
  });
  const watchFailures = new Counter({
    name: 'lamina_watch_failures_total',
    help: 'Lists and watches of a kind that failed and were tried again.',
    labelNames: ['kind'],
    registers,
  });
  const droppedEvents = new Counter({
    name: 'lamina_events_dropped_total',
    help: 'Events that were never sent: too-many of one object, or refused by the API server.',
    labelNames: ['why'],
    registers,
  });
  return {
    observeList: ({ kind }) => lists.inc({ kind }),
    observeWatchFailure: ({ kind }) => watchFailures.inc({ kind }),
    observeDroppedEvent: ({ why }) => droppedEvents.inc({ why }),
  };
}
