import { describe, expect, it } from 'vitest';
import { addingUp, observed } from '../../../src/lib/under-way.ts';

function watch() {
  const told: (number | string)[] = [];
  return { told, addBytes: (bytes: number) => void told.push(bytes), end: (result: string) => void told.push(result) };
}

describe('what is under way', () => {
  it('is told how much of it has moved, and that it is done', async () => {
    const watched = watch();
    expect(await observed(watched, AbortSignal.any([]), async (addBytes) => (addBytes(7), 'result'))).toBe('result');
    expect(watched.told).toEqual([7, 'done']);
  });

  it.each([
    ['failed', AbortSignal.any([])],
    ['stopped', AbortSignal.abort()],
  ])('is told to have %s', async (result, signal) => {
    const watched = watch();
    const work = observed(watched, signal, () => Promise.reject(new Error('no more')));
    await expect(work).rejects.toThrow('no more');
    expect(watched.told).toEqual([result]);
  });

  it('adds up what comes, but for what was there and what comes again', () => {
    const { told, addBytes } = watch();
    const count = addingUp(addBytes);
    for (const totalBytes of [100, 150, 150, 0, 30]) count(totalBytes);
    expect(told).toEqual([50, 30]);
  });
});
