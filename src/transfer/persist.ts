import { Backoff } from '../lib/backoff.ts';
import { type Clock, pause } from '../lib/clock.ts';

/** After so many failures without a byte in between, it is left to the caller to try again later. */
const maxFailures = 5;
const backoff = { baseMs: 200, maxMs: 5000, jitter: 0.3, random: Math.random };

export interface Persistence {
  clock: Clock;
  signal: AbortSignal;
  /** Whether another attempt may do better. */
  passes: (error: unknown) => boolean;
  /** How far it is. To come farther than ever before counts as a success; to begin anew, and come as far again, does not. */
  offsetBytes: () => number;
}

/** Tries again, after growing delays, what goes on where the last attempt failed. @throws what the last attempt threw; the signal's reason */
export async function persist(
  { clock, signal, passes, offsetBytes }: Persistence,
  attempt: () => Promise<void>,
): Promise<void> {
  const failures = new Backoff(backoff);
  let farthest = offsetBytes();
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (offsetBytes() > farthest) failures.reset();
      farthest = Math.max(farthest, offsetBytes());
      if (!passes(error) || failures.failures >= maxFailures) throw error;
      await pause(clock, failures.next(), signal);
      signal.throwIfAborted();
    }
  }
}
