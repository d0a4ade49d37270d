import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { WorkQueue } from '../../../src/lib/work-queue.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';

let clock: ManualClock;
let queue: WorkQueue;

function makeQueue(): WorkQueue {
  return new WorkQueue({ clock, backoff: { baseMs: 10, maxMs: 1000, jitter: 0, random: () => 0 } });
}

beforeEach(() => {
  clock = new ManualClock();
  queue = makeQueue();
});

describe('a work queue', () => {
  it('gives keys out in the order in which they came, each once', async () => {
    for (const key of ['a', 'b', 'a', 'c', 'b']) queue.add(key);
    expect(queue.length).toBe(3);
    expect([await queue.next(), await queue.next(), await queue.next()]).toEqual(['a', 'b', 'c']);
    expect(queue.length).toBe(0);
  });

  it('gives a key to a worker that already waits', async () => {
    const waiting = queue.next();
    queue.add('a');
    await expect(waiting).resolves.toBe('a');
  });

  it('gives a key that is added while it is worked on out again, but only afterwards, and once', async () => {
    queue.add('a');
    await queue.next();
    queue.add('a');
    queue.add('a');
    expect(queue.length).toBe(0);
    queue.done('a');
    expect(queue.length).toBe(1);
    await expect(queue.next()).resolves.toBe('a');
    queue.done('a');
    expect(queue.length).toBe(0);
  });

  it('lets the earliest of several delays count', () => {
    queue.addAfter('a', 100);
    queue.addAfter('a', 500);
    queue.addAfter('a', 50);
    clock.advance(49);
    expect(queue.length).toBe(0);
    clock.advance(1);
    expect(queue.length).toBe(1);
    expect(clock.pending).toEqual([]);
  });

  it('is not moved by the wall clock', () => {
    queue.addAfter('a', 100);
    clock.jump(-86_400_000);
    queue.addAfter('a', 200);
    clock.jump(2 * 86_400_000);
    clock.advance(100);
    expect(queue.length).toBe(1);
  });

  it('waits longer with each failure of a key, and not any more once it is forgotten', async () => {
    const delays: number[] = [];
    for (let failure = 0; failure < 9; failure++) {
      queue.addAfterFailure('a');
      delays.push(...clock.pending);
      clock.advance(1000);
      queue.done((await queue.next()) ?? '');
    }
    expect(delays).toEqual([10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    queue.forget('a');
    expect(queue.failuresOf('a')).toBe(0);
    queue.addAfterFailure('a', 70);
    expect(clock.pending).toEqual([70]);
  });

  it('gives out what waits when it is drained, then tells the workers to end', async () => {
    queue.add('a');
    queue.addAfter('late', 10);
    let drained = false;
    const end = (async () => {
      await queue.shutDown('drain');
      drained = true;
    })();
    queue.add('b');
    await expect(queue.next()).resolves.toBe('a');
    await expect(queue.next()).resolves.toBeUndefined();
    expect(drained).toBe(false);
    queue.done('a');
    await end;
    expect(clock.pending).toEqual([]);
  });

  it('gives nothing more out when it is dropped, but waits for what is worked on', async () => {
    queue.add('a');
    queue.add('b');
    await queue.next();
    queue.add('a');
    const end = queue.shutDown('drop');
    await expect(queue.next()).resolves.toBeUndefined();
    queue.done('a');
    await end;
    expect(queue.length).toBe(0);
  });

  it('wakes idle workers when it is shut down', async () => {
    const workers = [queue.next(), queue.next()];
    await queue.shutDown('drain');
    await expect(Promise.all(workers)).resolves.toEqual([undefined, undefined]);
  });
});

/** What the queue should be, in the words of its description. */
interface Model {
  waiting: string[];
  processing: Set<string>;
  again: Set<string>;
  delayed: Map<string, number>;
  nowMs: number;
}

function offer(model: Model, key: string): void {
  if (model.processing.has(key)) model.again.add(key);
  else if (!model.waiting.includes(key)) model.waiting.push(key);
}

const key = fc.constantFrom('a', 'b', 'c', 'd');
const operation = fc.oneof(
  fc.record({ do: fc.constant('add' as const), key }),
  fc.record({ do: fc.constant('addAfter' as const), key, ms: fc.integer({ min: 1, max: 50 }) }),
  fc.record({ do: fc.constant('take' as const) }),
  fc.record({ do: fc.constant('done' as const), key }),
  fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 30 }) }),
);

describe('property', () => {
  it('behaves as the model, whatever is done with it in whatever order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 80 }), async (operations) => {
        clock = new ManualClock();
        queue = makeQueue();
        const model: Model = { waiting: [], processing: new Set(), again: new Set(), delayed: new Map(), nowMs: 0 };
        for (const step of operations) {
          await perform(step, model);
          expect(queue.length).toBe(model.waiting.length);
        }
      }),
      { numRuns: 300 },
    );
  });

  async function perform(
    step: typeof operation extends fc.Arbitrary<infer S> ? S : never,
    model: Model,
  ): Promise<void> {
    if (step.do === 'add') {
      queue.add(step.key);
      offer(model, step.key);
    } else if (step.do === 'addAfter') {
      queue.addAfter(step.key, step.ms);
      const dueMs = model.nowMs + step.ms;
      if ((model.delayed.get(step.key) ?? Number.POSITIVE_INFINITY) <= dueMs) return;
      // Of those that are due at the same time, who was told last comes last.
      model.delayed.delete(step.key);
      model.delayed.set(step.key, dueMs);
    } else if (step.do === 'take') {
      const first = model.waiting.shift();
      if (first === undefined) return;
      expect(await queue.next()).toBe(first);
      model.processing.add(first);
    } else if (step.do === 'done') {
      if (!model.processing.delete(step.key)) return;
      queue.done(step.key);
      if (model.again.delete(step.key)) offer(model, step.key);
    } else {
      clock.advance(step.ms);
      model.nowMs += step.ms;
      const due = [...model.delayed].filter(([, dueMs]) => dueMs <= model.nowMs);
      for (const [late] of due.sort((x, y) => x[1] - y[1])) {
        model.delayed.delete(late);
        offer(model, late);
      }
    }
  }

  it('never has two workers on one key, and forgets no addition, however the workers interleave', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.array(key, { minLength: 1, maxLength: 30 }), async (scheduler, keys) => {
        clock = new ManualClock();
        queue = makeQueue();
        const active = new Set<string>();
        /** By key: the additions that a worker has begun after. */
        const added = new Map<string, number>();
        const seen = new Map<string, number>();
        const work = async () => {
          for (let taken = await queue.next(); taken !== undefined; taken = await queue.next()) {
            expect(active.has(taken)).toBe(false);
            active.add(taken);
            seen.set(taken, added.get(taken) ?? 0);
            await scheduler.schedule(Promise.resolve());
            active.delete(taken);
            queue.done(taken);
          }
        };
        const workers = [work(), work(), work()];
        const additions = scheduler.scheduleSequence(
          keys.map((each) => async () => {
            added.set(each, (added.get(each) ?? 0) + 1);
            queue.add(each);
          }),
        );
        const end = async () => {
          await additions.task;
          await queue.shutDown('drain');
          await Promise.all(workers);
        };
        await scheduler.waitFor(end());
        expect(seen).toEqual(added);
      }),
      { numRuns: 200 },
    );
  });
});
