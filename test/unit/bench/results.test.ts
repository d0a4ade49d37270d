import { describe, expect, it } from 'vitest';
import { formatTable, formatVerdict, medianResult } from '../../bench/results.ts';

describe('results of a benchmark', () => {
  it('a result is the median with its spread, its target and whether that is met', () => {
    expect(medianResult('create', 'ms', [50, 40, 90], { atMost: 60 })).toEqual({
      name: 'create',
      value: 50,
      unit: 'ms',
      target: '<= 60',
      met: true,
      low: 40,
      high: 90,
      samples: 3,
    });
  });

  it.each([
    [{ atLeast: 0.97 }, 0.97, true],
    [{ atLeast: 0.97 }, 0.969, false],
    [{ atMost: 150 }, 150.4, false],
    [{ between: [0.8, 1.2] as const }, 0.79, false],
    [{ between: [0.8, 1.2] as const }, 1.2, true],
  ])('target %j: %f is met: %s', (target, value, met) => {
    expect(medianResult('x', 'ratio', [value], target).met).toBe(met);
  });

  it('judges what was measured, not what is shown rounded', () => {
    const { value, met } = medianResult('x', 'ratio', [0.9699], { atLeast: 0.97 });
    expect({ value, met }).toEqual({ value: 0.97, met: false });
  });

  it('a figure without a target is neither met nor missed', () => {
    expect(medianResult('x', 'ms', [1])).toMatchObject({ target: null, met: null });
  });

  it('the table has a line for every result, columns one below the other, and says what is missed', () => {
    const results = [
      medianResult('a long name', 'IOPS', [51234.6, 50000, 60000], { atLeast: 1 }),
      medianResult('b', 'ratio', [0.31], { atLeast: 0.45 }),
      medianResult('c', 'ms', [3]),
    ];
    expect(formatTable(results)).toBe(
      [
        'what         median  unit   low .. high     n  target',
        '-----------  ------  -----  --------------  -  -------  ------',
        'a long name   51235  IOPS   50000 .. 60000  3  >= 1     met',
        'b              0.31  ratio                  1  >= 0.45  MISSED',
        'c                 3  ms                     1',
      ].join('\n'),
    );
    expect(formatVerdict(results)).toBe('1 of 2 targets met; missed: b');
  });
});
