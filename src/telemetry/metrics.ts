import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client';

export interface Metrics {
  readonly registry: Registry;
  /** One finished CSI call. */
  observeCall(call: { rpc: string; code: string; durationMs: number }): void;
  /** One file system was frozen for that long, for a snapshot. */
  observeFreeze(durationMs: number): void;
  /** A storage daemon ended that nobody had stopped. */
  countEngineDeath(): void;
}

/** All metrics, in a registry of their own. No label holds the id of a volume: there are too many of those. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const calls = new Histogram({
    name: 'lamina_csi_call_duration_seconds',
    help: 'Duration of finished CSI calls, by RPC and gRPC code.',
    labelNames: ['rpc', 'code'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    registers,
  });
  const freezes = new Histogram({
    name: 'lamina_freeze_duration_seconds',
    help: 'How long file systems stood still for snapshots of volumes in use.',
    buckets: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5],
    registers,
  });
  const deaths = new Counter({
    name: 'lamina_engine_deaths_total',
    help: 'Storage daemons of attached volumes that ended without being stopped.',
    registers,
  });
  return {
    registry,
    observeCall: ({ rpc, code, durationMs }) => calls.observe({ rpc, code }, durationMs / 1000),
    observeFreeze: (durationMs) => freezes.observe(durationMs / 1000),
    countEngineDeath: () => deaths.inc(),
  };
}
