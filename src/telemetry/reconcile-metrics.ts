import { Gauge, Histogram, type Registry } from 'prom-client';

/** Has the form of the controllers' observer. */
export interface ReconcileMetrics {
  readonly observeReconcile: (reconcile: { controller: string; result: string; durationMs: number }) => void;
  readonly observeQueue: (queue: { controller: string; length: number }) => void;
}

export function reconcileMetrics(registry: Registry): ReconcileMetrics {
  const reconciles = new Histogram({
    name: 'lamina_reconcile_duration_seconds',
    help: 'Duration of reconciles, by controller and result: done, again, conflict or error.',
    labelNames: ['controller', 'result'],
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600],
    registers: [registry],
  });
  const lengths = new Map<string, number>();
  const queues = new Gauge({
    name: 'lamina_reconcile_queue_length',
    help: 'Objects that wait to be reconciled, by controller.',
    labelNames: ['controller'],
    registers: [],
    // It changes with each of thousands of objects, and is looked at now and then.
    collect() {
      for (const [controller, length] of lengths) this.set({ controller }, length);
    },
  });
  registry.registerMetric(queues);
  return {
    observeReconcile: ({ controller, result, durationMs }) =>
      reconciles.observe({ controller, result }, durationMs / 1000),
    observeQueue: ({ controller, length }) => void lengths.set(controller, length),
  };
}
