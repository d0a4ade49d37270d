import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../../src/lib/bytes.ts';
import { isLaminaError } from '../../../src/lib/errors.ts';
import { chooseSize, maximumSizeBytes, sizeUnit } from '../../../src/store/create-disk.ts';

describe('the size of a new disk', () => {
  it('is what is required, rounded up', () => {
    expect(chooseSize({ requiredBytes: 10 * MiB + 1, limitBytes: 0 }, 0)).toBe(10 * MiB + sizeUnit);
  });

  it('is 1 GiB where nothing is said, and less where the limit is', () => {
    expect(chooseSize({ requiredBytes: 0, limitBytes: 0 }, 0)).toBe(GiB);
    expect(chooseSize({ requiredBytes: 0, limitBytes: 64 * MiB }, 0)).toBe(64 * MiB);
  });

  it("is the source's where nothing is said", () => {
    expect(chooseSize({ requiredBytes: 0, limitBytes: 0 }, 5 * GiB)).toBe(5 * GiB);
  });

  it('never leaves the range, and is refused where no multiple of the unit fits', () => {
    const sizes = fc.integer({ min: 0, max: 2 * maximumSizeBytes });
    fc.assert(
      fc.property(sizes, sizes, fc.integer({ min: 0, max: GiB / sizeUnit }), (requiredBytes, limitBytes, units) => {
        const source = units * sizeUnit;
        try {
          const size = chooseSize({ requiredBytes, limitBytes }, source);
          expect(size % sizeUnit).toBe(0);
          expect(size).toBeGreaterThanOrEqual(Math.max(requiredBytes, source, 1));
          expect(size).toBeLessThanOrEqual(limitBytes || maximumSizeBytes);
        } catch (error) {
          if (!isLaminaError(error, 'size-out-of-range')) throw error;
          const least = Math.max(requiredBytes, source);
          expect(
            Math.floor((limitBytes || maximumSizeBytes) / sizeUnit) * sizeUnit < Math.max(least, MiB) ||
              least > maximumSizeBytes,
          ).toBe(true);
        }
      }),
    );
  });
});
