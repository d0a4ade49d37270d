import { describe, expect, it } from 'vitest';
import { SharedWork } from '../../../src/transfer/shared-work.ts';

const never = () => new AbortController().signal;
const ignore = () => {};

describe('shared work', () => {
  it('is done once for all who ask meanwhile, and anew for who asks later', async () => {
    const shared = new SharedWork<number>();
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    let runs = 0;
    const seen: number[] = [];
    const work = async ({ onProgress }: { onProgress: (n: number) => void }) => {
      runs++;
      await gate;
      onProgress(runs);
    };
    const onProgress = (n: number) => seen.push(n);
    const all = Array.from({ length: 10 }, () => shared.run('a', { signal: never(), onProgress }, work));
    const other = shared.run('b', { signal: never(), onProgress: ignore }, work);
    expect(runs).toBe(2);
    open();
    await Promise.all([...all, other]);
    expect(seen).toHaveLength(10);
    await shared.run('a', { signal: never(), onProgress }, work);
    expect(runs).toBe(3);
  });

  it('goes on for the others where one does not want it any more, and ends with the last', async () => {
    const shared = new SharedWork<never>();
    const [first, second] = [new AbortController(), new AbortController()];
    let ended = false;
    const work = async ({ signal }: { signal: AbortSignal }) => {
      const { promise, reject } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => reject(signal.reason as Error));
      await promise.finally(() => (ended = true));
    };
    const one = shared.run('a', { signal: first.signal, onProgress: ignore }, work);
    const two = shared.run('a', { signal: second.signal, onProgress: ignore }, work);
    first.abort(new Error('first'));
    await expect(one).rejects.toThrow('first');
    expect(ended).toBe(false);
    second.abort(new Error('second'));
    await expect(two).rejects.toThrow('second');
    await expect.poll(() => ended).toBe(true);
  });

  it('fails for all', async () => {
    const shared = new SharedWork<never>();
    const work = async () => {
      throw new Error('no');
    };
    const all = [1, 2].map(() => shared.run('a', { signal: never(), onProgress: ignore }, work));
    expect((await Promise.allSettled(all)).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });

  it('is not begun for who does not want it any more', async () => {
    const work = () => Promise.reject(new Error('begun'));
    const run = new SharedWork<never>().run('a', { signal: AbortSignal.abort(), onProgress: ignore }, work);
    await expect(run).rejects.toThrow('aborted');
  });
});
