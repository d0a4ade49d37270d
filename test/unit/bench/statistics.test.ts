import { describe, expect, it } from 'vitest';
import { percentile, ratios, summarize } from '../../bench/statistics.ts';

describe('statistics of a benchmark', () => {
  it('summarize finds the middle of values in any order, and how far they spread', () => {
    expect(summarize([30, 10, 20])).toEqual({ median: 20, low: 10, high: 30, samples: 3 });
  });

  it('the median of an even number of values lies half-way between the two in the middle', () => {
    expect(summarize([1, 2, 4, 100]).median).toBe(3);
  });

  it('a single value is its own median, lowest and highest', () => {
    expect(summarize([7])).toEqual({ median: 7, low: 7, high: 7, samples: 1 });
  });

  it('sorts numbers as numbers, and leaves the given list alone', () => {
    const values = [100, 20, 3];
    expect(summarize(values).low).toBe(3);
    expect(values).toEqual([100, 20, 3]);
  });

  it('percentile interpolates between neighbours and ends at the highest value', () => {
    const values = Array.from({ length: 101 }, (_, index) => index);
    expect(percentile(values, 99)).toBe(99);
    expect(percentile([0, 10], 75)).toBe(7.5);
    expect(percentile(values, 100)).toBe(100);
  });

  it('ratios compare each value with the baseline of its own round', () => {
    expect(ratios([10, 5], [20, 5])).toEqual([0.5, 1]);
  });

  it('refuses to summarize nothing, and to compare lists of different lengths', () => {
    expect(() => summarize([])).toThrow(RangeError);
    expect(() => ratios([1, 2], [1])).toThrow('2 values, 1 of the baseline');
  });
});
