import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { metricInventory } from '../../metric-inventory.ts';

const readDocument = (name: string) => readFile(new URL(`../../../${name}`, import.meta.url), 'utf8');

describe('docs/metrics.md', () => {
  it('lists every metric of ours with its type, labels and roles, and no other', async () => {
    const rows = [...(await readDocument('docs/metrics.md')).matchAll(/^\| `(lamina_\w+)` \|(.*?)\|(.*?)\|(.*?)\|/gm)];
    const listed = rows.map(([, name, ...cells]) => [name, ...cells.map((cell) => cell.trim())]);
    const expected = metricInventory().map(({ name, type, labels, roles }) => {
      return [name, type, labels.join(', '), roles.length === 3 ? 'all' : roles.join(', ')];
    });
    expect(listed.sort()).toEqual(expected.sort());
  });
});
