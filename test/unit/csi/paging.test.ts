import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pageOf } from '../../../src/csi/validation/paging.ts';

const ids = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 4 }), { maxLength: 30 });

describe('pageOf', () => {
  it('lists what stays exactly once, and nothing twice, whatever comes and goes between the pages', () => {
    fc.assert(
      fc.property(
        ids,
        ids,
        fc.integer({ min: 1, max: 5 }),
        fc.infiniteStream(fc.nat()),
        (first, others, maxEntries, choices) => {
          const there = new Set(first);
          const stayed = new Set(first);
          const seen: string[] = [];
          let startingToken = '';
          do {
            const { page, nextToken } = pageOf(
              [...there].map((id) => ({ id })),
              { maxEntries, startingToken },
            );
            expect(page.length).toBeLessThanOrEqual(maxEntries);
            seen.push(...page.map(({ id }) => id));
            startingToken = nextToken;
            for (const id of [...first, ...others]) {
              const choice = Number(choices.next().value) % 4;
              if (choice === 0) there.add(id);
              if (choice !== 1) continue;
              there.delete(id);
              stayed.delete(id);
            }
          } while (startingToken !== '');
          expect(new Set(seen).size).toBe(seen.length);
          expect(seen).toEqual(expect.arrayContaining([...stayed]));
        },
      ),
    );
  });
});
