import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { writtenParts } from '../../../../src/transfer/layers/written-parts.ts';

const blockBytes = 4096;

describe('the parts that have to be written', () => {
  it('are all that is not zero, in whole blocks, neighbours together', () => {
    const block = fc.constantFrom('zero', 'full', 'first byte', 'last byte');
    fc.assert(
      fc.property(fc.array(block, { maxLength: 12 }), fc.nat(blockBytes - 1), (blocks, more) => {
        const data = Buffer.alloc(blocks.length * blockBytes + more);
        blocks.forEach((kind, index) => {
          const at = index * blockBytes;
          if (kind === 'full') data.fill(7, at, at + blockBytes);
          if (kind === 'first byte') data[at] = 1;
          if (kind === 'last byte') data[at + blockBytes - 1] = 1;
        });
        const parts = writtenParts(data);
        const copy = Buffer.alloc(data.length);
        for (const { start, end } of parts) data.copy(copy, start, start, end);
        expect(copy.equals(data)).toBe(true);
        const bytes = parts.reduce((sum, { start, end }) => sum + end - start, 0);
        expect(bytes).toBe(blocks.filter((kind) => kind !== 'zero').length * blockBytes);
        parts.reduce((before, { start, end }) => {
          expect(start).toBeGreaterThan(before);
          return end;
        }, -1);
      }),
    );
  });
});
