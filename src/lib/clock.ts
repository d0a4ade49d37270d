import { uptime } from 'node:os';

/** Time for everything that waits, retries or expires. Tests pass one that they move themselves. */
export interface Clock {
  /** What the wall clock shows: for time stamps that people read, never to measure with, because it jumps. */
  now(): Date;
  /** Milliseconds since some moment. Never goes back, and goes on while the machine is suspended. */
  elapsedMs(): number;
  /** Calls `action` once, after `delayMs`. @returns a function that takes it back. */
  schedule(delayMs: number, action: () => void): () => void;
}

/** What a Node timer can hold; beyond it, it would fire at once. */
const maxTimerMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => new Date(),
  // The time since boot, because performance.now() stands still while the machine is suspended (CLOCK_MONOTONIC).
  elapsedMs: () => uptime() * 1000,
  schedule: (delayMs, action) => {
    const timer = setTimeout(action, Math.min(delayMs, maxTimerMs));
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`, or at once when `signal` aborts; never rejects. */
export async function pause(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (delayMs <= 0 || signal?.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = () => resolve();
  const cancel = clock.schedule(delayMs, wake);
  signal?.addEventListener('abort', wake, { once: true });
  try {
    await promise;
  } finally {
    cancel();
    signal?.removeEventListener('abort', wake);
  }
}
