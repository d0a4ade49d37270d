import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ClusterSet } from '../../../../src/transfer/users/cluster-set.ts';

describe('a set of clusters', () => {
  it('counts and finds as a list of them does', async () => {
    const extents = fc.array(fc.record({ gap: fc.nat(900), count: fc.integer({ min: 1, max: 900 }) }), {
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(extents, fc.nat(2000), async (gaps, tail) => {
        const list: number[] = [];
        let clusters = 0;
        const parts = gaps.map(({ gap, count }) => {
          const first = clusters + gap;
          for (let n = 0; n < count; n++) list.push(first + n);
          clusters = first + count;
          return { first, count };
        });
        clusters += tail + 1;
        const set = await ClusterSet.from(
          clusters,
          (async function* () {
            yield* parts;
          })(),
        );
        expect(set.count).toBe(list.length);
        list.forEach((cluster, n) => {
          expect(set.nth(n)).toBe(cluster);
          expect(set.has(cluster)).toBe(true);
          expect(set.rank(cluster)).toBe(n);
        });
        expect(set.rank(clusters + 10_000)).toBe(list.length);
        expect(set.has(clusters)).toBe(false);
      }),
      { numRuns: 50 },
    );
  });
});
