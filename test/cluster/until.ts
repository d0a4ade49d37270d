import { setTimeout as delay } from 'node:timers/promises';

export interface UntilOptions {
  /** Default: one minute. */
  timeoutMs?: number;
  /** What else there is to say where it does not come to that. */
  more?: () => string | Promise<string>;
}

/** Asks again and again until the answer is there. @throws where it is not in time, with `more` */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined>,
  { timeoutMs = 60_000, more = () => '' }: UntilOptions = {},
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() >= end) throw new Error(`not within ${timeoutMs / 1000} s: ${what}. ${await more()}`);
    await delay(100);
  }
}
