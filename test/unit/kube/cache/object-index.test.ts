import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ObjectIndex } from '../../../../src/kube/cache/object-index.ts';

it('finds what was added and not removed, as a set for each value would', () => {
  const word = fc.constantFrom('a', 'b', 'c');
  const step = fc.record({ isAdded: fc.boolean(), value: word, key: word });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const index = new ObjectIndex();
      const model = new Map<string, Set<string>>();
      for (const { isAdded, value, key } of steps) {
        const keys = model.get(value) ?? new Set();
        model.set(value, keys);
        if (isAdded) {
          index.add(value, key);
          keys.add(key);
        } else {
          index.remove(value, key);
          keys.delete(key);
        }
        expect(index.get(value).toSorted()).toEqual([...keys].toSorted());
      }
    }),
  );
});
