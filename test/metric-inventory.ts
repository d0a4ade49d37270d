import type { Metric, Registry } from 'prom-client';
import { createControllerMetrics, createNodeMetrics, createStandaloneMetrics } from '../src/telemetry/metrics.ts';
import { ManualClock } from './fakes/manual-clock.ts';
import { silentLogger } from './fakes/silent-logger.ts';

export interface MetricEntry {
  name: string;
  type: string;
  labels: string[];
  roles: string[];
}

/** All metrics of the program, with the roles that have them; its own begin with `lamina_`. */
export function metricInventory(): MetricEntry[] {
  const options = { version: '1.2.3', clock: new ManualClock(), logger: silentLogger };
  const registries: Record<string, Registry> = {
    standalone: createStandaloneMetrics(options).registry,
    controller: createControllerMetrics(options).registry,
    node: createNodeMetrics(options).registry,
  };
  const entries = new Map<string, MetricEntry>();
  for (const [role, registry] of Object.entries(registries)) {
    for (const metric of registry.getMetricsAsArray() as unknown as Metric[]) {
      const entry = entryOf(metric);
      const roles = [...(entries.get(entry.name)?.roles ?? []), role];
      entries.set(entry.name, { ...entry, roles });
    }
  }
  return [...entries.values()];
}

/** The labels that each time series has, by the name that Prometheus knows it by: a histogram has three. */
export function seriesLabels(): Map<string, string[]> {
  const suffixes: Record<string, readonly string[]> = { histogram: ['_bucket', '_sum', '_count'] };
  return new Map(
    metricInventory().flatMap(({ name, type, labels }) =>
      (suffixes[type] ?? ['']).map((suffix) => [name + suffix, suffix === '_bucket' ? [...labels, 'le'] : labels]),
    ),
  );
}

function entryOf(metric: Metric): Omit<MetricEntry, 'roles'> {
  // Kept by prom-client, and in none of its types.
  const { name, labelNames } = metric as unknown as { name: string; labelNames: string[] };
  return { name, type: metric.constructor.name.toLowerCase(), labels: labelNames };
}
