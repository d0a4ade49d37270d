import type { Registry } from 'prom-client';
import { createControllerMetrics, createNodeMetrics, createStandaloneMetrics } from '../src/telemetry/metrics.ts';
import { ManualClock } from './fakes/manual-clock.ts';
import { silentLogger } from './fakes/silent-logger.ts';

export interface MetricEntry {
  name: string;
  type: string;
  labels: string[];
  roles: string[];
}

/** All metrics of the program's own, with the roles that have them, sorted by name. */
export function metricInventory(): MetricEntry[] {
  const options = { version: '1.2.3', clock: new ManualClock(), logger: silentLogger };
  const registries: Record<string, Registry> = {
    standalone: createStandaloneMetrics(options).registry,
    controller: createControllerMetrics(options).registry,
    node: createNodeMetrics(options).registry,
  };
  const entries = new Map<string, MetricEntry>();
  for (const [role, registry] of Object.entries(registries)) {
    for (const metric of registry.getMetricsAsArray()) {
      if (!metric.name.startsWith('lamina_')) continue;
      const { name } = metric;
      // Kept by prom-client, and in none of its types.
      const labels = (metric as unknown as { labelNames: string[] }).labelNames;
      const known = entries.get(name) ?? { name, type: metric.constructor.name.toLowerCase(), labels, roles: [] };
      entries.set(name, { ...known, roles: [...known.roles, role] });
    }
  }
  return [...entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The names that Prometheus knows metrics by: a histogram has three. */
export function seriesNames(): Set<string> {
  const suffixes: Record<string, readonly string[]> = { histogram: ['_bucket', '_sum', '_count'] };
  return new Set(
    metricInventory().flatMap(({ name, type }) => (suffixes[type] ?? ['']).map((suffix) => `${name}${suffix}`)),
  );
}
