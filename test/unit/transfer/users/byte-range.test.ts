import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseContentRange, parseRange } from '../../../../src/transfer/users/byte-range.ts';

describe('Range', () => {
  it.each([
    ['bytes=0-9', { start: 0, end: 10 }],
    ['bytes=90-', { start: 90, end: 100 }],
    ['bytes=90-1000', { start: 90, end: 100 }],
    ['bytes=-10', { start: 90, end: 100 }],
    ['bytes=-1000', { start: 0, end: 100 }],
    ['bytes=99-99', { start: 99, end: 100 }],
    ['bytes=100-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=9-0', null],
    ['bytes=-', null],
    ['bytes=0-1,5-6', null],
    ['lines=0-1', null],
    ['bytes=1e1-', null],
    [undefined, null],
  ])('%s of 100 bytes is %j', (header, range) => {
    expect(parseRange(header, 100)).toEqual(range);
  });

  it('never leaves the file', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.integer({ min: 1 }), (first, last, sizeBytes) => {
        const range = parseRange(`bytes=${first}-${last}`, sizeBytes);
        if (range === null) expect(last).toBeLessThan(first);
        else if (range === 'unsatisfiable') expect(first).toBeGreaterThanOrEqual(sizeBytes);
        else expect(range).toEqual({ start: first, end: Math.min(last + 1, sizeBytes) });
      }),
    );
  });
});

describe('Content-Range', () => {
  it.each([
    ['bytes 0-9/10', { start: 0, end: 10, totalBytes: 10 }],
    ['bytes 5-9/20', { start: 5, end: 10, totalBytes: 20 }],
    ['bytes 9-5/20', undefined],
    ['bytes 5-20/20', undefined],
    ['bytes */20', undefined],
    ['bytes 5-9/*', undefined],
    ['5-9/20', undefined],
  ])('%s', (header, range) => {
    expect(parseContentRange(header)).toEqual(range);
  });
});
