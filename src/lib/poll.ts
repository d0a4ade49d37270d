import { setTimeout as delay } from 'node:timers/promises';

/** Asks `condition` every `intervalMs` until it holds or `timeoutMs` are over. @returns whether it held. */
export async function pollUntil(
  condition: () => Promise<boolean> | boolean,
  options: { timeoutMs: number; intervalMs: number },
): Promise<boolean> {
  const end = performance.now() + options.timeoutMs;
  for (;;) {
    if (await condition()) return true;
    if (performance.now() >= end) return false;
    await delay(options.intervalMs);
  }
}
