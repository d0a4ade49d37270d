import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Candidate,
  chooseNode,
  type PlacementWish,
  roomFor,
} from '../../../../src/reconcile/cluster/placement.ts';
import { GiB } from '../../../../src/lib/bytes.ts';

const node = (nodeName: string, thinGi: number, thickGi = thinGi, obstacle: string | null = null): Candidate => ({
  nodeName,
  obstacle,
  thinBytes: thinGi * GiB,
  thickBytes: thickGi * GiB,
});

const wish = (some: Partial<PlacementWish> = {}): PlacementWish => ({
  sizeBytes: 10 * GiB,
  isThick: false,
  allowed: null,
  preferred: [],
  ...some,
});

describe('a new disk', () => {
  const three = [node('a', 20), node('b', 50, 5), node('c', 30)];

  it.each([
    ['where there is most room', wish(), 'b'],
    ['where there is most room of the kind that it takes', wish({ isThick: true }), 'c'],
    ['on the first preferred node, whatever room others have', wish({ preferred: ['a', 'b'] }), 'a'],
    [
      'on the next preferred node where the first has no room',
      wish({ sizeBytes: 25 * GiB, preferred: ['a', 'c'] }),
      'c',
    ],
    [
      'on another allowed node where no preferred one has room',
      wish({ sizeBytes: 40 * GiB, preferred: ['a', 'c'] }),
      'b',
    ],
    ['on an allowed node only', wish({ allowed: ['a', 'c'] }), 'c'],
    ['on a preferred node only where that is allowed', wish({ allowed: ['a', 'c'], preferred: ['b', 'a'] }), 'a'],
    ['where it fits exactly', wish({ sizeBytes: 50 * GiB }), 'b'],
  ])('goes %s', (_, wanted, nodeName) => {
    expect(chooseNode(three, wanted)).toEqual({ nodeName });
  });

  it.each([
    [
      'has no room anywhere',
      wish({ sizeBytes: 60 * GiB }),
      {
        reason: 'NoRoom',
        message: 'a: there is room for 20 GiB; b: there is room for 50 GiB; c: there is room for 30 GiB',
      },
    ],
    [
      'is allowed only where there is no such pool',
      wish({ allowed: ['x', 'y'] }),
      { reason: 'PoolNotFound', message: 'x: it has no such pool; y: it has no such pool' },
    ],
    ['is allowed nowhere', wish({ allowed: [] }), { reason: 'PoolNotFound', message: 'no node has such a pool' }],
  ])('that %s is told why', (_, wanted, refusal) => {
    expect(chooseNode(three, wanted)).toEqual(refusal);
  });

  it('is not made where something stands in the way, and that is told', () => {
    const candidates = [node('a', 50, 50, 'its pool is not ready (Starting)'), node('b', 5)];
    expect(chooseNode(candidates, wish({ sizeBytes: GiB }))).toEqual({ nodeName: 'b' });
    expect(chooseNode(candidates.slice(0, 1), wish())).toEqual({
      reason: 'PoolNotFound',
      message: 'a: its pool is not ready (Starting)',
    });
    const many = Array.from({ length: 20 }, (_, i) => node(`n${i}`, 1));
    expect(chooseNode(many, wish())).toMatchObject({ message: expect.stringMatching(/; and 12 more nodes$/) });
  });
});

describe('the choice of a node', () => {
  const names = fc.constantFrom<string[]>('a', 'b', 'c', 'd', 'e');
  const candidates = fc.uniqueArray(
    fc.record({
      nodeName: names,
      obstacle: fc.option(fc.constant('it is not ready'), { freq: 3 }),
      thinBytes: fc.integer({ min: -5, max: 20 }),
      thickBytes: fc.integer({ min: -5, max: 20 }),
    }),
    { selector: ({ nodeName }) => nodeName },
  );
  const wishes = fc.record({
    sizeBytes: fc.integer({ min: 0, max: 20 }),
    isThick: fc.boolean(),
    allowed: fc.option(fc.uniqueArray(names)),
    preferred: fc.uniqueArray(names),
  });

  it('is right for all candidates and wishes, in whatever order they come', () => {
    fc.assert(
      fc.property(candidates, wishes, fc.gen(), (all, wanted, gen) => {
        const fits = (candidate: Candidate) =>
          candidate.obstacle === null &&
          roomFor(candidate, wanted) >= wanted.sizeBytes &&
          (wanted.allowed?.includes(candidate.nodeName) ?? true);
        const fitting = all.filter(fits);
        const choice = chooseNode(all, wanted);
        const shuffled = gen(fc.shuffledSubarray, all, { minLength: all.length });
        if (!('nodeName' in choice)) {
          expect(fitting).toEqual([]);
          return;
        }
        expect(chooseNode(shuffled, wanted)).toEqual(choice);
        const chosen = fitting.find(({ nodeName }) => nodeName === choice.nodeName);
        expect(chosen).toBeDefined();
        const best = wanted.preferred.find((nodeName) => fitting.some((candidate) => candidate.nodeName === nodeName));
        if (best !== undefined) expect(choice.nodeName).toBe(best);
        else
          for (const other of fitting)
            expect(roomFor(other, wanted)).toBeLessThanOrEqual(chosen ? roomFor(chosen, wanted) : -99);
      }),
    );
  });
});
