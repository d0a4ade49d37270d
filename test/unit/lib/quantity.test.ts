import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatQuantity, formatRoundedQuantity, parseQuantity } from '../../../src/lib/quantity.ts';

const bytes = fc.nat({ max: Number.MAX_SAFE_INTEGER });

describe('parseQuantity', () => {
  it.each([
    ['0', 0],
    ['1073741824', 1024 ** 3],
    ['10Gi', 10 * 1024 ** 3],
    ['1.5Gi', 1.5 * 1024 ** 3],
    ['100Ti', 100 * 1024 ** 4],
    ['.5Ki', 512],
    ['5.', 5],
    ['+1k', 1000],
    ['1G', 1e9],
    ['1E', undefined],
    ['1e9', 1e9],
    ['1E3', 1000],
    ['12e-1', 2],
    ['500m', 1],
    ['1n', 1],
    ['0.0001Ki', 1],
  ])('reads %s', (text, value) => expect(parseQuantity(text)).toBe(value));

  it.each(['', '-1', 'Gi', '.', '1 Gi', '1gi', '1KB', '1K', '0x10', '1,5Gi', 'NaN', '1e1000', '9'.repeat(65)])(
    'refuses %j',
    (text) => expect(parseQuantity(text)).toBeUndefined(),
  );

  it('takes the suffixes for what they are, whatever the number', () => {
    const suffixes = [
      ['Ki', 1024n],
      ['Mi', 1024n ** 2n],
      ['Gi', 1024n ** 3n],
      ['k', 1000n],
      ['M', 1000n ** 2n],
      ['T', 1000n ** 4n],
      ['e6', 1000n ** 2n],
    ] as const;
    fc.assert(
      fc.property(
        fc.nat({ max: 8000 }),
        fc.nat({ max: 999 }),
        fc.constantFrom(...suffixes),
        (whole, part, [suffix, unit]) => {
          const thousandths = BigInt(whole * 1000 + part) * unit;
          const text = `${whole}.${String(part).padStart(3, '0')}${suffix}`;
          expect(parseQuantity(text)).toBe(Number((thousandths + 999n) / 1000n));
        },
      ),
    );
  });
});

describe('formatQuantity', () => {
  it.each([
    [0, '0'],
    [1000, '1000'],
    [1536 * 1024, '1536Ki'],
    [1024 ** 4, '1Ti'],
  ])('writes %d as %s', (value, text) => expect(formatQuantity(value)).toBe(text));

  it('is read back as what was written', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        expect(parseQuantity(formatQuantity(value))).toBe(value);
      }),
    );
    fc.assert(
      fc.property(fc.nat({ max: 8191 }), fc.nat({ max: 4 }), (value, power) => {
        expect(parseQuantity(formatQuantity(value * 1024 ** power))).toBe(value * 1024 ** power);
      }),
    );
  });
});

describe('formatRoundedQuantity', () => {
  it.each([
    [1023, '1023', '1023'],
    [1024 ** 3, '1Gi', '1Gi'],
    [1_480_000_000, '1.37Gi', '1.38Gi'],
    [213_909_504 + 1, '204Mi', '205Mi'],
    [1024 ** 3 - 1, '1023Mi', '1024Mi'],
  ])('writes %d as %s, or as %s', (value, down, up) => {
    expect(formatRoundedQuantity(value, 'down')).toBe(down);
    expect(formatRoundedQuantity(value, 'up')).toBe(up);
  });

  it('is on the side that is asked for, and off by at most one in a hundred', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        // 8 PiB and more cannot be read back.
        const up = parseQuantity(formatRoundedQuantity(value, 'up')) ?? Number.MAX_SAFE_INTEGER;
        const down = parseQuantity(formatRoundedQuantity(value, 'down')) ?? -1;
        expect(up).toBeGreaterThanOrEqual(value);
        expect(up).toBeLessThanOrEqual(value * 1.01 + 1);
        // Reading rounds parts of a byte up.
        expect(down).toBeLessThanOrEqual(value + 1);
        expect(down).toBeGreaterThanOrEqual(value * 0.99);
      }),
    );
  });
});
