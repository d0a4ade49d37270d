import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Backoff, backoffDelayMs } from '../../../src/lib/backoff.ts';

describe('backoff', () => {
  it('doubles with each failure, up to a limit, and begins anew after a success', () => {
    const backoff = new Backoff({ baseMs: 100, maxMs: 500, jitter: 0, random: () => 0 });
    expect([1, 2, 3, 4, 5].map(() => backoff.next())).toEqual([100, 200, 400, 500, 500]);
    expect(backoff.failures).toBe(5);
    backoff.reset();
    expect(backoff.next()).toBe(100);
  });

  it('is a number of milliseconds between base and limit plus jitter, however many failures there were', () => {
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), random, (failures, chance) => {
        const delayMs = backoffDelayMs(failures, { baseMs: 20, maxMs: 60_000, jitter: 0.5, random: () => chance });
        expect(delayMs).toBeGreaterThanOrEqual(20);
        expect(delayMs).toBeLessThanOrEqual(90_000);
      }),
    );
  });
});
