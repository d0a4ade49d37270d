import { randomBytes } from 'node:crypto';
import type { EventNote, EventSubject } from './events.ts';
import type { KubeObject, Manifest } from '../objects.ts';
import type { ResourceType } from '../client/resource-type.ts';

export const eventType: ResourceType<KubeObject> = {
  group: 'events.k8s.io',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  namespaced: true,
  parse: (json) => json as KubeObject,
};

/** An event and its repetitions, which the API server keeps as one object with a count. */
export interface EventSeries {
  readonly subject: EventSubject;
  readonly note: EventNote;
  readonly firstAt: Date;
  lastAt: Date;
  lastElapsedMs: number;
  count: number;
  /** What the API server has of it. */
  sent: { name: string; count: number } | undefined;
  /** Failures to send it, in a row. */
  failures: number;
}

/** The API server's limits, in bytes. */
const maxNoteBytes = 1024;
/** Of the 253 that a name may have, without the suffix. */
const maxPrefixLength = 236;

/** What makes two events one series. */
export function seriesKey(subject: EventSubject, { type, reason, action, note }: EventNote): string {
  return [subjectKey(subject), type, reason, action, note].join('\n');
}

export function subjectKey({ kind, metadata: { namespace = '', name, uid = '' } }: EventSubject): string {
  return [kind, namespace, name, uid].join('/');
}

/** Events of cluster-scoped objects are in the namespace `default`, as the API server wants it. */
export function eventNamespace({ metadata: { namespace } }: EventSubject): string {
  return namespace ?? 'default';
}

export function eventManifest(
  series: EventSeries,
  reporter: { reportingController: string; reportingInstance: string },
): Manifest {
  const { subject, note, firstAt, count } = series;
  const { name, namespace, uid } = subject.metadata;
  const prefix = name.slice(0, maxPrefixLength).replace(/[^a-z0-9]+$/, '');
  const event = {
    metadata: { name: `${prefix}.${randomBytes(8).toString('hex')}`, namespace: eventNamespace(subject) },
    eventTime: microTime(firstAt),
    ...reporter,
    type: note.type,
    reason: note.reason,
    action: note.action,
    note: cutOff(note.note, maxNoteBytes),
    regarding: { apiVersion: subject.apiVersion, kind: subject.kind, name, namespace, uid },
    ...(count > 1 ? seriesPatch(series) : {}),
  };
  return event;
}

export function seriesPatch({ count, lastAt }: EventSeries): { series: { count: number; lastObservedTime: string } } {
  return { series: { count, lastObservedTime: microTime(lastAt) } };
}

/** With microseconds, as the API wants it. */
function microTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z');
}

function cutOff(text: string, maxBytes: number): string {
  if (Buffer.byteLength(text) <= maxBytes) return text;
  // A character that was cut in two at the end is left out.
  const head = Buffer.from(text).subarray(0, maxBytes - Buffer.byteLength('…'));
  return `${head.toString('utf8').replace(/\uFFFD$/, '')}…`;
}
