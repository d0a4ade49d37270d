import { describe, expect, it } from 'vitest';
import { diskImages } from '../../../../src/api/objects.ts';
import { type CopyTold, findingOf, listCopies } from '../../../../src/reconcile/cluster/copies-report.ts';

const nameOf = (index: number) => `node-${String(index).padStart(4, '0')}`;
const ready = (index: number): CopyTold => ({ nodeName: nameOf(index), state: { kind: 'ready' } });
const failed = (index: number, message = 'There is no room.'): CopyTold => ({
  nodeName: nameOf(index),
  state: { kind: 'failed', reason: 'PoolFull', message },
});
const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);

describe('what a DiskImage says of its copies', () => {
  it('lists them by their nodes, with what they take', () => {
    const told: CopyTold[] = [{ ...ready(2), allocatedBytes: 1_500_000_000 }, failed(1)];
    expect(listCopies(told)).toEqual([
      { nodeName: 'node-0001', ready: false, message: 'There is no room.' },
      { nodeName: 'node-0002', ready: true, allocated: '1.4Gi' },
    ]);
  });

  it('keeps the object small in a cluster of thousands of nodes, and lists those that lack first', () => {
    const told = [...numbers(3000).map(ready), ...numbers(10).map((index) => failed(5000 + index, 'x'.repeat(5000)))];
    const copies = listCopies(told);
    expect(copies).toHaveLength(256);
    expect(copies.filter((copy) => !copy.ready)).toHaveLength(10);
    expect(copies.map(({ nodeName }) => nodeName)).toEqual(copies.map(({ nodeName }) => nodeName).toSorted());
    expect(JSON.stringify(copies).length).toBeLessThan(100_000);
    // Whatever there is to be said fits into the schema.
    const { message, status, reason } = findingOf(told, true);
    expect(() => diskImages.parseStatus({ copies })).not.toThrow();
    expect(message.length).toBeLessThan(4096);
    expect([status, reason]).toEqual(['False', 'PoolFull']);
    expect(message).toMatch(/^3000 of 3010 nodes have a copy\. .* and 2 more, which status\.copies lists$/);
  });

  it.each([
    ['no node is to have one', [], true, 'AllCopied', 'No other node is to have a copy.'],
    ['the one has it', [ready(1)], true, 'AllCopied', 'The node has its copy.'],
    [
      'the image is not ready',
      [{ nodeName: 'a', state: { kind: 'waiting', message: '' } } satisfies CopyTold],
      false,
      'WaitingForImage',
      'The copies are made when the image is ready.',
    ],
    [
      'one is on its way',
      [ready(1), { nodeName: 'a', state: { kind: 'working', message: '' } } satisfies CopyTold],
      true,
      'Copying',
      '1 of 2 nodes have a copy; status.copies says how far the others are.',
    ],
  ])('says in one sentence that %s', (_, told, hasContent, reason, message) => {
    expect(findingOf(told, hasContent)).toEqual({ status: reason === 'AllCopied' ? 'True' : 'False', reason, message });
  });
});
