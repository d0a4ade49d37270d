import { Histogram, type Registry } from 'prom-client';

export interface CsiMetrics {
  /** One finished CSI call. */
  readonly observeCall: (call: { rpc: string; code: string; durationMs: number }) => void;
}

export function csiMetrics(registry: Registry): CsiMetrics {
  const calls = new Histogram({
    name: 'lamina_csi_call_duration_seconds',
    help: 'Duration of finished CSI calls, by RPC and gRPC code.',
    labelNames: ['rpc', 'code'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    registers: [registry],
  });
  return { observeCall: ({ rpc, code, durationMs }) => calls.observe({ rpc, code }, durationMs / 1000) };
}
