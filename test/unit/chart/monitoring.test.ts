import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { chartDirectory } from '../../chart.ts';

/** Metrics that docs/metrics.md has, as they are called in queries: histograms are three each. */
async function documentedMetrics(): Promise<Set<string>> {
  const text = await readFile(path.resolve(import.meta.dirname, '../../../docs/metrics.md'), 'utf8');
  const lines = [...text.matchAll(/^\| `(lamina_\w+)` \| (\w+) \|/gm)];
  const names = lines.flatMap(([, name = '', type]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name],
  );
  return new Set([...names, 'process_resident_memory_bytes']);
}

test.each(['files/alerts.yaml', 'files/dashboard.json'])('%s asks for metrics that there are', async (file) => {
  const text = await readFile(path.join(chartDirectory, file), 'utf8');
  const asked = new Set(text.match(/\b(lamina|process)_\w+/g));
  expect(asked.size).toBeGreaterThan(0);
  const known = await documentedMetrics();
  expect([...asked].filter((name) => !known.has(name))).toEqual([]);
});
