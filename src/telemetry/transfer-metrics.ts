import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/**
 * What moves: an image that is imported, a layer that is fetched from another node or served to one, an image that is
 * exported or uploaded by a person.
 */
export type TransferKind = 'import' | 'layer-fetch' | 'layer-serve' | 'export' | 'upload';

/** One that is under way. */
export interface RunningTransfer {
  addBytes(bytes: number): void;
  /** Once. `stopped`: given up on purpose, as when its object was deleted or the process ends. */
  end(result: 'done' | 'failed' | 'stopped'): void;
}

export interface TransferMetrics {
  readonly beginTransfer: (kind: TransferKind) => RunningTransfer;
}

export function transferMetrics(registry: Registry): TransferMetrics {
  const registers = [registry];
  const durations = new Histogram({
    name: 'lamina_transfer_duration_seconds',
    help: 'Duration of imports, exports, uploads and transfers of layers between nodes, by kind and result: done, failed or stopped.',
    labelNames: ['kind', 'result'],
    buckets: [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600],
    registers,
  });
  const transferredBytes = new Counter({
    name: 'lamina_transfer_bytes_total',
    help: 'Bytes that went over the network, by kind.',
    labelNames: ['kind'],
    registers,
  });
  const active = new Gauge({
    name: 'lamina_transfers_active',
    help: 'Those that are under way, by kind.',
    labelNames: ['kind'],
    registers,
  });
  return {
    beginTransfer: (kind) => {
      const startMs = performance.now();
      active.inc({ kind });
      return {
        addBytes: (bytes) => transferredBytes.inc({ kind }, bytes),
        end: (result) => {
          active.dec({ kind });
          durations.observe({ kind, result }, (performance.now() - startMs) / 1000);
        },
      };
    },
  };
}
