import { describe, expect, it } from 'vitest';
import { KeyedLock } from '../../../src/lib/keyed-lock.ts';

describe('KeyedLock', () => {
  it('runs work of one key one after the other, first come first served', async () => {
    const lock = new KeyedLock();
    const order: string[] = [];
    const work = (name: string) =>
      lock.run('a', async () => {
        order.push(`${name} in`);
        await new Promise((resolve) => setImmediate(resolve));
        order.push(`${name} out`);
      });
    await Promise.all([work('1'), work('2'), work('3')]);
    expect(order).toEqual(['1 in', '1 out', '2 in', '2 out', '3 in', '3 out']);
  });

  it('does not let one key wait for another', async () => {
    const lock = new KeyedLock();
    const gate = Promise.withResolvers<void>();
    const held = lock.run('a', () => gate.promise);
    await expect(lock.run('b', async () => 'done')).resolves.toBe('done');
    gate.resolve();
    await held;
  });

  it('answers busy at once where asked to try', async () => {
    const lock = new KeyedLock();
    const gate = Promise.withResolvers<void>();
    const held = lock.run('a', () => gate.promise);
    await expect(lock.tryRun('a', async () => {})).rejects.toMatchObject({ code: 'busy' });
    gate.resolve();
    await held;
    await expect(lock.tryRun('a', async () => 1)).resolves.toBe(1);
  });

  it('goes on after a failure and holds nothing afterwards', async () => {
    const lock = new KeyedLock();
    const failed = lock.run('a', () => Promise.reject(new Error('no')));
    const after = lock.run('a', async () => 'yes');
    await expect(failed).rejects.toThrow('no');
    await expect(after).resolves.toBe('yes');
    expect(lock.isHeld('a')).toBe(false);
  });
});
