import { beforeEach, describe, expect, it } from 'vitest';
import { BackgroundJobs } from '../../../../src/reconcile/node/background-jobs.ts';
import { ManualClock } from '../../../fakes/manual-clock.ts';

describe('work in the background', () => {
  let clock: ManualClock;
  let ended: string[];
  let jobs: BackgroundJobs<number>;
  beforeEach(() => {
    clock = new ManualClock();
    ended = [];
    jobs = new BackgroundJobs({
      clock,
      random: () => 0,
      longestDelayMs: 60_000,
      onEnded: (key) => ended.push(key),
    });
  });

  const denied = new Error('denied');
  /** Begins work that fails at once, and waits for that. */
  async function fail(): Promise<void> {
    const before = ended.length;
    jobs.start('a', 0, async () => {
      throw denied;
    });
    await expect.poll(() => ended.length).toBe(before + 1);
  }

  it('is looked at while it runs, and nothing is known of it when it is done', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    jobs.start('a', 0, (_, onProgress) => {
      onProgress(5);
      return promise;
    });
    expect(jobs.look('a')).toEqual({ kind: 'running', progress: 5 });
    resolve();
    await expect.poll(() => ended).toEqual(['a']);
    expect([jobs.look('a'), jobs.has('a')]).toEqual([undefined, false]);
  });

  it('that fails is new once, and is not begun again before its time, however often it is looked at', async () => {
    await fail();
    expect(jobs.look('a')).toEqual({ kind: 'failed', error: denied, isNew: true, againAfterMs: 5000 });
    for (const againAfterMs of [5000, 4000, 3000]) {
      expect(jobs.look('a')).toEqual({ kind: 'failed', error: denied, isNew: false, againAfterMs });
      clock.advance(1000);
    }
    expect(jobs.has('a')).toBe(true);
    clock.advance(2000);
    expect([jobs.look('a'), jobs.has('a')]).toEqual([undefined, false]);
  });

  it('that fails is told, even where that is later than it could be begun again', async () => {
    await fail();
    clock.advance(60_000);
    expect(jobs.look('a')).toEqual({ kind: 'failed', error: denied, isNew: true, againAfterMs: 0 });
    expect(jobs.look('a')).toBeUndefined();
  });

  it('that fails again and again waits longer each time, up to a minute, until it succeeds', async () => {
    const delays: (number | undefined)[] = [];
    const failAndWait = async () => {
      await fail();
      const state = jobs.look('a');
      delays.push(state?.kind === 'failed' ? state.againAfterMs : undefined);
      clock.advance(60_000);
      jobs.look('a');
    };
    for (let attempt = 0; attempt < 6; attempt++) await failAndWait();
    jobs.start('a', 0, async () => {});
    await expect.poll(() => ended).toHaveLength(7);
    await failAndWait();
    expect(delays).toEqual([5000, 10_000, 20_000, 40_000, 60_000, 60_000, 5000]);
  });

  it('that is aborted tells nobody, and can be begun anew at once', async () => {
    jobs.start('a', 0, (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(denied))));
    await jobs.abort('a');
    expect([jobs.look('a'), ended]).toEqual([undefined, []]);
    await fail();
    await jobs.abort('a');
    expect(jobs.look('a')).toBeUndefined();
  });
});
