import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { withSections } from './api/reference.ts';
import { valuesTable } from './chart/values-table.ts';

const chart = 'charts/lamina';

/**
 * `scripts/generate-chart.ts DIRECTORY`: writes the chart's README.md below DIRECTORY, with the table of values from
 * values.yaml. What people wrote in it stays; only what stands between its marks is replaced.
 */
async function main(directory: string): Promise<void> {
  const read = (file: string) => readFile(path.resolve(import.meta.dirname, '..', chart, file), 'utf8');
  const sections = new Map([['values', valuesTable(await read('values.yaml'))]]);
  const file = path.join(directory, chart, 'README.md');
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, withSections(await read('README.md'), sections));
}

await main(process.argv[2] ?? '.');
