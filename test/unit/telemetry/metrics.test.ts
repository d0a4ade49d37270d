import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../../src/telemetry/metrics.ts';

describe('createMetrics', () => {
  it('counts calls by RPC and code, in seconds', async () => {
    const metrics = createMetrics();
    metrics.observeCall({ rpc: 'CreateVolume', code: 'OK', durationMs: 30 });
    metrics.observeCall({ rpc: 'CreateVolume', code: 'OK', durationMs: 250 });
    metrics.observeCall({ rpc: 'CreateVolume', code: 'ABORTED', durationMs: 1 });
    const text = await metrics.registry.metrics();
    expect(text).toContain('lamina_csi_call_duration_seconds_count{rpc="CreateVolume",code="OK"} 2');
    expect(text).toContain('lamina_csi_call_duration_seconds_sum{rpc="CreateVolume",code="OK"} 0.28');
    expect(text).toContain('lamina_csi_call_duration_seconds_bucket{le="0.05",rpc="CreateVolume",code="OK"} 1');
    expect(text).toContain('lamina_csi_call_duration_seconds_count{rpc="CreateVolume",code="ABORTED"} 1');
  });

  it('counts freezes and dead daemons', async () => {
    const metrics = createMetrics();
    metrics.observeFreeze(80);
    metrics.countEngineDeath();
    metrics.countEngineDeath();
    const text = await metrics.registry.metrics();
    expect(text).toContain('lamina_freeze_duration_seconds_sum 0.08');
    expect(text).toContain('lamina_engine_deaths_total 2');
  });

  it('keeps to itself: two in one process do not meet', async () => {
    const first = createMetrics();
    createMetrics().countEngineDeath();
    expect(await first.registry.metrics()).toContain('lamina_engine_deaths_total 0');
  });
});

describe('docs/metrics.md', () => {
  it('lists every metric of ours with its type and labels, and no other', async () => {
    const own = createMetrics()
      .registry.getMetricsAsArray()
      .filter(({ name }) => name.startsWith('lamina_'));
    // Kept by prom-client, and in none of its types.
    const labelsOf = (metric: object) => (metric as { labelNames: string[] }).labelNames.join(', ');
    const expected = own.map((metric) => [metric.name, metric.constructor.name.toLowerCase(), labelsOf(metric)]);
    const text = await readFile(new URL('../../../docs/metrics.md', import.meta.url), 'utf8');
    const rows = [...text.matchAll(/^\| `(lamina_\w+)` \| (\w+) \|(.*?)\|/gm)];
    expect(rows.map(([, name, type, labels]) => [name, type, labels?.trim()])).toEqual(expected);
  });
});
