import { Counter, Histogram, type Registry } from 'prom-client';

export interface CompactionMetrics {
  /** Two layers became one. */
  readonly observeMerge: (merge: { costBytes: number; durationMs: number }) => void;
}

export function compactionMetrics(registry: Registry): CompactionMetrics {
  const merges = new Histogram({
    name: 'lamina_compaction_duration_seconds',
    help: 'How long it took to merge a layer into the one above it.',
    buckets: [0.1, 0.5, 1, 5, 10, 30, 60, 300, 900],
    registers: [registry],
  });
  const mergedBytes = new Counter({
    name: 'lamina_compaction_bytes_total',
    help: 'What the image files of merged layers had occupied, which is at most what was copied.',
    registers: [registry],
  });
  return {
    observeMerge: ({ costBytes, durationMs }) => {
      merges.observe(durationMs / 1000);
      mergedBytes.inc(costBytes);
    },
  };
}
