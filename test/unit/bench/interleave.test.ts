import { describe, expect, it } from 'vitest';
import { interleave } from '../../bench/bench.ts';

describe('interleave', () => {
  it('runs every variant once a round, in turns forwards and backwards, and keeps their results apart', async () => {
    const order: string[] = [];
    const variant = (name: string) => async () => {
      order.push(name);
      return `${name}${order.length}`;
    };
    const results = await interleave(3, [variant('a'), variant('b')]);
    expect(order).toEqual(['a', 'b', 'b', 'a', 'a', 'b']);
    expect(results).toEqual([
      ['a1', 'a4', 'a5'],
      ['b2', 'b3', 'b6'],
    ]);
  });
});
