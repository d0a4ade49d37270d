import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter } from '../../../src/lib/line-splitter.ts';

const text = fc.string({ unit: 'grapheme' }).map((line) => line.replaceAll(/[\r\n]/g, '').trimEnd());

describe('LineSplitter', () => {
  it('gives the same lines however the bytes are cut into chunks', () => {
    fc.assert(
      fc.property(fc.array(text), fc.array(fc.nat(40)), (lines, cuts) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\r\n`).join(''));
        const splitter = new LineSplitter(1_000_000);
        const found: string[] = [];
        let at = 0;
        for (const length of [...cuts, bytes.length]) {
          found.push(...splitter.push(bytes.subarray(at, at + length)));
          at += length;
        }
        expect(found).toEqual(lines);
      }),
    );
  });

  it('keeps a character whole that is cut in the middle', () => {
    const splitter = new LineSplitter(100);
    const bytes = Buffer.from('snow ☃\n');
    expect(splitter.push(bytes.subarray(0, 6))).toEqual([]);
    expect(splitter.push(bytes.subarray(6))).toEqual(['snow ☃']);
  });

  it('refuses a line without an end before it fills the memory', () => {
    const splitter = new LineSplitter(10);
    splitter.push(Buffer.from('12345'));
    expect(() => splitter.push(Buffer.from('678901'))).toThrow('more than 10 bytes');
  });
});
