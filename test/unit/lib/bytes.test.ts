import { describe, expect, it } from 'vitest';
import { formatBytes, parseBytes } from '../../../src/lib/bytes.ts';

describe('bytes', () => {
  it.each([
    ['65536', 65536],
    ['64k', 65536],
    ['64Ki', 65536],
    ['2M', 2 * 1024 ** 2],
    ['1Ti', 1024 ** 4],
  ])('reads %s', (text, bytes) => expect(parseBytes(text)).toBe(bytes));

  it.each(['', '-1', '1.5G', '1 G', 'G', '1X', '0x10', '99999999999T', '1Kib'])('refuses %j', (text) => {
    expect(parseBytes(text)).toBeUndefined();
  });

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [1024 ** 4, '1 TiB'],
  ])('writes %d as %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));
});
