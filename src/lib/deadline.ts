import type { Clock } from './clock.ts';
import { LaminaError } from './errors.ts';

export interface Deadline {
  clock: Clock;
  timeoutMs: number;
  /** What is waited for, for the message. */
  what: string;
  signal?: AbortSignal | undefined;
}

/**
 * Runs `work` with a signal that aborts after `timeoutMs`, or with the caller's; its reason says which it was.
 * The listener on the caller's signal goes with the work, since that signal often lives as long as the process.
 */
export async function withDeadline<T>(
  { clock, timeoutMs, what, signal }: Deadline,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  const cancel = clock.schedule(timeoutMs, () => {
    controller.abort(new LaminaError('timeout', `${what}: no answer within ${timeoutMs} ms`));
  });
  try {
    return await work(controller.signal);
  } finally {
    cancel();
    signal?.removeEventListener('abort', abort);
  }
}
