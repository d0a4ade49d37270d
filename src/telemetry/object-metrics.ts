import { type Read, type ReadingGauges, readingGauges } from './readings.ts';

/** Objects of one kind whose condition Ready has the same status. */
export interface ObjectReading {
  kind: string;
  ready: 'True' | 'False' | 'Unknown';
  count: number;
  /** For how long the one that waits longest has not been ready; 0 where they are. */
  longestMs: number;
}

export interface ObjectMetrics {
  readonly readObjects: (read: Read<ObjectReading>) => void;
}

export function objectMetrics(
  options: Pick<ReadingGauges<ObjectReading, 'kind' | 'ready'>, 'registry' | 'clock' | 'logger'>,
): ObjectMetrics {
  return {
    readObjects: readingGauges<ObjectReading, 'kind' | 'ready'>({
      ...options,
      labels: ['kind', 'ready'],
      labelsOf: ({ kind, ready }) => ({ kind, ready }),
      gauges: {
        lamina_objects: {
          help: 'DiskImages, DiskSnapshots and DiskPools, by the status of their condition Ready.',
          valueOf: ({ count }) => count,
        },
        lamina_objects_longest_seconds: {
          help: 'For how long the one of them that waits longest has not been ready.',
          valueOf: ({ longestMs }) => longestMs / 1000,
        },
      },
    }),
  };
}
