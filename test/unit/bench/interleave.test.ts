import { describe, expect, it } from 'vitest';
import { interleave } from '../../bench/bench.ts';

describe('interleave', () => {
  it('runs every variant once a round and keeps their results apart', async () => {
    const order: string[] = [];
    const variant = (name: string) => async () => {
      order.push(name);
      return `${name}${order.length}`;
    };
    const results = await interleave(3, [variant('a'), variant('b')]);
    expect(order).toEqual(['a', 'b', 'b', 'a', 'b', 'a']);
    expect(results).toEqual([
      ['a1', 'a4', 'a6'],
      ['b2', 'b3', 'b5'],
    ]);
  });

  it('of three variants, each follows each other one within six rounds', async () => {
    const order: string[] = [];
    const variants = ['a', 'b', 'c'].map((name) => async () => order.push(name));
    await interleave(6, variants);
    const rounds = Array.from({ length: 6 }, (_, round) => order.slice(3 * round, 3 * round + 3).join(''));
    expect(rounds.toSorted()).toEqual(['abc', 'acb', 'bac', 'bca', 'cab', 'cba']);
  });
});
