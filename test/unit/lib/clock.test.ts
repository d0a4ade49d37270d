import { describe, expect, it } from 'vitest';
import { pause, systemClock } from '../../../src/lib/clock.ts';
import { withDeadline } from '../../../src/lib/deadline.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';

describe('the system clock', () => {
  it('never goes back, and calls what is due', async () => {
    const startMs = systemClock.elapsedMs();
    const { promise, resolve } = Promise.withResolvers<void>();
    const notCalled = systemClock.schedule(1, () => expect.unreachable('it was taken back'));
    notCalled();
    systemClock.schedule(20, resolve);
    await promise;
    // What tells of suspended time has a resolution of 10 ms.
    expect(systemClock.elapsedMs() - startMs).toBeGreaterThanOrEqual(10);
  });

  it('takes delays beyond what a timer can hold for long ones, not for none', async () => {
    let called = false;
    const cancel = systemClock.schedule(1e12, () => {
      called = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    cancel();
    expect(called).toBe(false);
  });
});

describe('a pause', () => {
  it('ends after its time, at once when it is interrupted, and leaves nothing behind', async () => {
    const clock = new ManualClock();
    const whole = pause(clock, 100);
    clock.advance(100);
    await whole;
    const abort = new AbortController();
    const cut = pause(clock, 1e9, abort.signal);
    abort.abort();
    await cut;
    await pause(clock, 1e9, abort.signal);
    expect(clock.pending).toEqual([]);
  });
});

describe('a deadline', () => {
  const untilAborted = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));

  it('interrupts work that takes too long, and says what was waited for', async () => {
    const clock = new ManualClock();
    const work = withDeadline({ clock, timeoutMs: 50, what: 'GET /x' }, untilAborted);
    clock.advance(50);
    await expect(work).rejects.toMatchObject({ code: 'timeout', message: 'GET /x: no answer within 50 ms' });
  });

  it('passes the interruption of the caller on, with its reason', async () => {
    const clock = new ManualClock();
    const abort = new AbortController();
    const work = withDeadline({ clock, timeoutMs: 50, what: 'x', signal: abort.signal }, untilAborted);
    abort.abort(new Error('stopped'));
    await expect(work).rejects.toThrow('stopped');
    const deadline = { clock, timeoutMs: 50, what: 'x', signal: abort.signal };
    await expect(withDeadline(deadline, async (signal) => signal.aborted)).resolves.toBe(true);
    expect(clock.pending).toEqual([]);
  });
});
