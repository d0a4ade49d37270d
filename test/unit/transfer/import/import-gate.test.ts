import { describe, expect, it } from 'vitest';
import { ImportGate } from '../../../../src/transfer/import/import-gate.ts';

const never = new AbortController().signal;

describe('ImportGate', () => {
  it('lets so many in, and the others in the order in which they came', async () => {
    const gate = new ImportGate(1);
    const order: number[] = [];
    const works = [1, 2, 3].map((each) => gate.run(never, async () => void order.push(each)));
    await Promise.all(works);
    expect(order).toEqual([1, 2, 3]);
  });

  it('forgets who gives up', async () => {
    const gate = new ImportGate(1);
    const first = Promise.withResolvers<void>();
    const running = gate.run(never, () => first.promise);
    const stop = new AbortController();
    const second = gate.run(stop.signal, async () => 'second');
    const third = gate.run(never, async () => 'third');
    const reason = new Error('not wanted');
    stop.abort(reason);
    await expect(second).rejects.toBe(reason);
    first.resolve();
    await running;
    expect(await third).toBe('third');
  });

  it('keeps the place of whoever waits behind one that gives up in the moment of being let in', async () => {
    const gate = new ImportGate(1);
    const first = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const running = gate.run(never, () => {
      started.resolve();
      return first.promise;
    });
    await started.promise;
    const stop = new AbortController();
    const second = gate.run(stop.signal, async () => 'second');
    const third = gate.run(never, async () => 'third');
    // After the gate has seen it, before the second has: reactions run in the order in which they were asked for.
    void first.promise.then(() => stop.abort());
    first.resolve();
    await running;
    expect([await second, await third]).toEqual(['second', 'third']);
  });
});
