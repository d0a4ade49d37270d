import type { Registry } from 'prom-client';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/logger.ts';
import { type ApiMetrics, apiMetrics } from './api-metrics.ts';
import { type CompactionMetrics, compactionMetrics } from './compaction-metrics.ts';
import { type CsiMetrics, csiMetrics } from './csi-metrics.ts';
import { type EngineMetrics, engineMetrics } from './engine-metrics.ts';
import { type LeaderMetrics, leaderMetrics } from './leader-metrics.ts';
import { type ObjectMetrics, objectMetrics } from './object-metrics.ts';
import { type PoolMetrics, poolMetrics } from './pool-metrics.ts';
import { type ReconcileMetrics, reconcileMetrics } from './reconcile-metrics.ts';
import { createRegistry } from './registry.ts';
import { type TransferMetrics, transferMetrics } from './transfer-metrics.ts';

export interface MetricsOptions {
  version: string;
  clock: Clock;
  logger: Logger;
}

interface OfProcess {
  readonly registry: Registry;
}

/** What is used of a pool's machine. */
type OfPools = EngineMetrics & CompactionMetrics & PoolMetrics;
/** What is used of a cluster. */
type OfCluster = ReconcileMetrics & ApiMetrics;

export type StandaloneMetrics = OfProcess & CsiMetrics & OfPools;
export type ControllerMetrics = OfProcess & CsiMetrics & OfCluster & LeaderMetrics & ObjectMetrics;
export type NodeMetrics = OfProcess & CsiMetrics & OfCluster & OfPools & TransferMetrics;

// Each role has the metrics of what it does, in a registry of its own. No label holds the id of a volume: there are
// too many of those. Docs/metrics.md lists them all.

export function createStandaloneMetrics({ version, ...options }: MetricsOptions): StandaloneMetrics {
  const registry = createRegistry({ role: 'standalone', version });
  return { registry, ...csiMetrics(registry), ...ofPools({ ...options, registry, inCluster: false }) };
}

export function createControllerMetrics({ version, ...options }: MetricsOptions): ControllerMetrics {
  const registry = createRegistry({ role: 'controller', version });
  return {
    registry,
    ...csiMetrics(registry),
    ...ofCluster(registry),
    ...leaderMetrics(registry),
    ...objectMetrics({ ...options, registry }),
  };
}

export function createNodeMetrics({ version, ...options }: MetricsOptions): NodeMetrics {
  const registry = createRegistry({ role: 'node', version });
  return {
    registry,
    ...csiMetrics(registry),
    ...ofCluster(registry),
    ...ofPools({ ...options, registry, inCluster: true }),
    ...transferMetrics(registry),
  };
}

function ofPools(options: Parameters<typeof poolMetrics>[0]): OfPools {
  return { ...engineMetrics(options), ...compactionMetrics(options.registry), ...poolMetrics(options) };
}

function ofCluster(registry: Registry): OfCluster {
  return { ...reconcileMetrics(registry), ...apiMetrics(registry) };
}
