import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../../src/lib/token-bucket.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';

/** Lets promises that are due run. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('a token bucket', () => {
  /** How much four takers get in ten seconds. */
  async function takenInTenSeconds(bucket: TokenBucket, clock: ManualClock, amount: number): Promise<number> {
    let taken = 0;
    const over = new AbortController();
    const taker = async () => {
      for (;;) {
        await bucket.take(amount, over.signal);
        taken += amount;
      }
    };
    const takers = Array.from({ length: 4 }, taker);
    for (let step = 0; step < 1000; step++) {
      clock.advance(10);
      await settle();
    }
    over.abort();
    await Promise.allSettled(takers);
    return taken;
  }

  it.each([10, 1000, 5000])('gives all who take from it together what its rate is, %i at once', async (amount) => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(10_000, clock);
    const taken = await takenInTenSeconds(bucket, clock, amount);
    expect(taken).toBeGreaterThan(90_000);
    expect(taken).toBeLessThanOrEqual(102_500);
  });

  it('saves up a quarter of a second and no more', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(1000, clock);
    clock.advance(60_000);
    await bucket.take(250);
    let second = false;
    void bucket.take(250).then(() => (second = true));
    clock.advance(249);
    await settle();
    expect(second).toBe(false);
    clock.advance(1);
    await settle();
    expect(second).toBe(true);
  });

  it('lets the next wait no longer than a new rate asks for', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(1, clock);
    bucket.perSecond = Number.POSITIVE_INFINITY;
    await bucket.take(1e12);
    bucket.perSecond = 1000;
    expect(clock.pending).toEqual([]);
    void bucket.take(500);
    expect(clock.pending).toEqual([500]);
  });

  it('gives up with the reason of a signal', async () => {
    const bucket = new TokenBucket(1, new ManualClock());
    const controller = new AbortController();
    const taken = bucket.take(1000, controller.signal);
    controller.abort(new Error('not wanted'));
    await expect(taken).rejects.toThrow('not wanted');
    await expect(bucket.take(1, controller.signal)).rejects.toThrow('not wanted');
  });
});
