import { describe, expect, it } from 'vitest';
import { httpGet } from '../../../../src/transfer/import/http-get.ts';
import { isOwnAddress } from '../../../../src/transfer/import/reachable.ts';

describe('what only a machine itself can reach', () => {
  it.each([
    '127.0.0.1',
    '127.9.9.9',
    '0.0.0.0',
    '169.254.169.254',
    '::1',
    '::',
    'fe80::1',
    '::ffff:127.0.0.1',
    '168.63.129.16',
  ])('is %s', (address) => {
    expect(isOwnAddress(address)).toBe(true);
  });

  it.each(['10.244.1.7', '192.0.2.1', '2001:db8::1', 'fd00::1', '::ffff:192.0.2.1'])('is not %s', (address) => {
    expect(isOwnAddress(address)).toBe(false);
  });

  it.each([
    'http://127.0.0.1:1/a',
    'http://[::1]:1/a',
    'http://localhost:1/a',
    'http://0x7f000001:1/a',
    'http://2130706433/a',
  ])('is not asked for %s', async (url) => {
    const source = { url, headers: {}, certificateAuthority: null };
    const get = { source, headers: {}, stallMs: 1000, mayReachItself: false, signal: AbortSignal.timeout(5000) };
    await expect(httpGet(get)).rejects.toMatchObject({ code: 'source-denied' });
  });
});
