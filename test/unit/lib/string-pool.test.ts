import { expect, it } from 'vitest';
import { StringPool } from '../../../src/lib/string-pool.ts';

it('gives back equal strings, however many it has seen', () => {
  const pool = new StringPool();
  for (let index = 0; index < 20_000; index++) {
    expect(pool.shared(`text ${index}`)).toBe(`text ${index}`);
    expect(pool.shared('often')).toBe('often');
  }
});
