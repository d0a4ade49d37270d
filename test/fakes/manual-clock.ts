import type { Clock } from '../../src/lib/clock.ts';

interface Timer {
  dueMs: number;
  action: () => void;
}

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  readonly #timers = new Set<Timer>();
  #elapsedMs = 1_000_000;
  #wallMs = Date.UTC(2026, 0, 1);

  now(): Date {
    return new Date(this.#wallMs);
  }

  elapsedMs(): number {
    return this.#elapsedMs;
  }

  schedule(delayMs: number, action: () => void): () => void {
    const timer = { dueMs: this.#elapsedMs + Math.max(0, delayMs), action };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** In how many milliseconds the timers that wait are due, the first one first. */
  get pending(): number[] {
    return [...this.#timers].map(({ dueMs }) => dueMs - this.#elapsedMs).sort((a, b) => a - b);
  }

  /** Lets time go by; timers that become due run in their order. What they start runs afterwards. */
  advance(ms: number): void {
    const endMs = this.#elapsedMs + ms;
    for (let next = this.#firstDue(endMs); next; next = this.#firstDue(endMs)) {
      this.#timers.delete(next);
      this.#moveTo(Math.max(next.dueMs, this.#elapsedMs));
      next.action();
    }
    this.#moveTo(endMs);
  }

  /** Lets time go by without the timers, as when the machine was suspended and this process has just woken up. */
  suspend(ms: number): void {
    this.#moveTo(this.#elapsedMs + ms);
  }

  /** Sets the wall clock, as ntp or an administrator does. */
  jump(ms: number): void {
    this.#wallMs += ms;
  }

  #moveTo(elapsedMs: number): void {
    this.#wallMs += elapsedMs - this.#elapsedMs;
    this.#elapsedMs = elapsedMs;
  }

  #firstDue(endMs: number): Timer | undefined {
    const due = [...this.#timers].filter(({ dueMs }) => dueMs <= endMs);
    return due.reduce<Timer | undefined>(
      (first, timer) => (first && first.dueMs <= timer.dueMs ? first : timer),
      undefined,
    );
  }
}
