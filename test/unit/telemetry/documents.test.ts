import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { errnoOf } from '../../../src/lib/errors.ts';
import { metricInventory, seriesLabels } from '../../metric-inventory.ts';
import { selectorsOf } from '../../promql.ts';

const fileOf = (name: string) => path.resolve(import.meta.dirname, '../../..', name);
const readDocument = (name: string) => readFile(fileOf(name), 'utf8');

/** What Prometheus gives each time series, or knows by itself. */
const targetLabels = ['job', 'instance', 'namespace', 'pod'];
const prometheusOwn = ['up'];

/** What a query asks for that is not there. */
function unknownIn(query: string): string[] {
  const series = seriesLabels();
  return selectorsOf(query).flatMap(({ metric, labels }) => {
    const known = prometheusOwn.includes(metric) ? [] : series.get(metric);
    if (!known) return [metric];
    return labels.filter((label) => ![...known, ...targetLabels].includes(label)).map((label) => `${metric}{${label}}`);
  });
}

describe('the check of queries', () => {
  it('finds a metric and a label that do not exist, and what is no query', () => {
    expect(unknownIn('rate(lamina_pool_free_bytes{nod="a"}[5m]) / lamina_missing')).toEqual([
      'lamina_pool_free_bytes{nod}',
      'lamina_missing',
    ]);
    expect(unknownIn('sum by (le) (rate(lamina_freeze_duration_seconds_bucket{le="1"}[5m]))')).toEqual([]);
    expect(unknownIn('lamina_freeze_duration_seconds')).toEqual(['lamina_freeze_duration_seconds']);
    expect(() => unknownIn('sum by (')).toThrow('no PromQL');
  });
});

describe('docs/operators/metrics.md', () => {
  it('lists every metric of ours with its type, labels and roles, and no other', async () => {
    const rows = [
      ...(await readDocument('docs/operators/metrics.md')).matchAll(/^\| `(lamina_\w+)` \|(.*?)\|(.*?)\|(.*?)\|/gm),
    ];
    const listed = rows.map(([, name, ...cells]) => [name, ...cells.map((cell) => cell.trim())]);
    const ours = metricInventory().filter(({ name }) => name.startsWith('lamina_'));
    const expected = ours.map(({ name, type, labels, roles }) => {
      return [name, type, labels.join(', '), roles.length === 3 ? 'all' : roles.join(', ')];
    });
    expect(listed.sort()).toEqual(expected.sort());
  });
});

const ruleSchema = z.strictObject({
  alert: z.string().regex(/^Lamina[A-Z]\w+$/),
  expr: z.string(),
  for: z.string().optional(),
  labels: z.strictObject({ severity: z.enum(['critical', 'warning']) }),
  annotations: z.strictObject({ summary: z.string(), description: z.string(), runbook: z.string() }),
});
const rulesSchema = z.strictObject({
  groups: z.array(z.strictObject({ name: z.string(), rules: z.array(ruleSchema) })),
});

describe('charts/lamina/files/alerts.yaml', () => {
  let alerts: z.infer<typeof ruleSchema>[];

  beforeAll(async () => {
    const { groups } = rulesSchema.parse(parse(await readDocument('charts/lamina/files/alerts.yaml')));
    alerts = groups.flatMap(({ rules }) => rules);
  });

  it('asks only for metrics and labels that exist', () => {
    expect(alerts.flatMap(({ alert, expr }) => unknownIn(expr).map((what) => `${alert}: ${what}`))).toEqual([]);
  });

  it('has a section in docs/operators/alerts.md for each alert, with its severity, and none for others', async () => {
    const sections = (await readDocument('docs/operators/alerts.md')).matchAll(/^## (\w+)\n\*\*(\w+)\.\*\*/gm);
    expect([...sections].map(([, alert, severity]) => `${alert} ${severity}`).sort()).toEqual(
      alerts.map(({ alert, labels }) => `${alert} ${labels.severity}`).sort(),
    );
  });

  it('points to that section from each alert', () => {
    for (const { alert, annotations } of alerts)
      expect(annotations.runbook).toBe(`docs/operators/alerts.md#${alert.toLowerCase()}`);
  });

  it('goes off when it should, and not in a healthy system, as promtool says', async (context) => {
    const directory = await mkdtemp(path.join(tmpdir(), 'lamina-alerts-'));
    try {
      await copyFile(fileOf('charts/lamina/files/alerts.yaml'), path.join(directory, 'alerts.yaml'));
      await copyFile(fileOf('test/fixtures/alert-cases.yaml'), path.join(directory, 'cases.yaml'));
      const { stdout } = await promisify(execFile)('promtool', ['test', 'rules', 'cases.yaml'], { cwd: directory });
      expect(stdout).toContain('SUCCESS');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') context.skip('promtool is not in PATH (the package prometheus has it)');
      throw error;
    } finally {
      await rm(directory, { recursive: true });
    }
  }, 300_000);
});

const panelSchema = z.looseObject({
  id: z.int(),
  title: z.string(),
  type: z.enum(['row', 'stat', 'timeseries']),
  gridPos: z.object({ x: z.int(), y: z.int(), w: z.int(), h: z.int() }),
  targets: z.array(z.looseObject({ expr: z.string(), refId: z.string() })).default([]),
});
const dashboardSchema = z.looseObject({
  uid: z.string(),
  title: z.string(),
  schemaVersion: z.int(),
  templating: z.object({ list: z.array(z.looseObject({ name: z.string(), definition: z.string().optional() })) }),
  panels: z.array(panelSchema),
});

describe('charts/lamina/files/dashboard.json', () => {
  let dashboard: z.infer<typeof dashboardSchema>;
  let queries: string[];

  beforeAll(async () => {
    dashboard = dashboardSchema.parse(JSON.parse(await readDocument('charts/lamina/files/dashboard.json')));
    queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  });

  it('asks only for metrics and labels that exist', () => {
    const plain = queries.map((query) => query.replaceAll('$__rate_interval', '5m'));
    expect(plain.flatMap((query) => unknownIn(query))).toEqual([]);
  });

  it('shows every metric of ours', () => {
    const shown = new Set(queries.flatMap((query) => query.match(/lamina_\w+/g) ?? []));
    const series = (name: string) => [name, `${name}_bucket`, `${name}_count`];
    const ours = metricInventory().filter(({ name }) => name.startsWith('lamina_'));
    expect(ours.filter(({ name }) => !series(name).some((one) => shown.has(one))).map(({ name }) => name)).toEqual([]);
  });

  it('has variables for all that its queries use, read from metrics that exist', () => {
    const { list } = dashboard.templating;
    const used = queries.flatMap((query) => [...query.matchAll(/\$(\w+)/g)].map(([, name]) => name));
    const known = new Set(['__rate_interval', ...list.map(({ name }) => name)]);
    expect(used.filter((name) => !known.has(name ?? ''))).toEqual([]);
    for (const { definition } of list) {
      const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(definition ?? '') ?? [];
      if (definition) expect(seriesLabels().get(metric ?? ''), definition).toContain(label);
    }
  });

  it('has panels that do not overlap, each with an id of its own', () => {
    const { panels } = dashboard;
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(panels.every(({ gridPos: { x, w } }) => x + w <= 24)).toBe(true);
  });
});
