import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { parseUserRequest, pathOf, tokenOf } from '../../../../src/transfer/users/user-request.ts';

const parse = (method: string, url: string) => parseUserRequest({ method, url } as IncomingMessage);
const tokenIn = (authorization?: string) => tokenOf({ headers: { authorization } } as IncomingMessage);

describe('what somebody asks for', () => {
  const image = { namespace: 'media', resource: 'diskimages', name: 'debian-13.1' } as const;

  it.each([
    ['GET', { action: 'export', ...image, format: 'qcow2' }, false],
    ['HEAD', { action: 'export', ...image, format: 'raw' }, true],
    ['GET', { action: 'export', namespace: 'a', resource: 'volumesnapshots', name: 's', format: 'raw' }, false],
    ['GET', { action: 'export', namespace: 'a', resource: 'disksnapshots', name: 's', format: 'qcow2' }, false],
    ['PUT', { action: 'upload', ...image }, false],
    ['HEAD', { action: 'upload', ...image }, true],
  ] as const)('%s %o is understood as it is written', (method, wanted, headOnly) => {
    expect(parse(method, pathOf(wanted))).toEqual({ ...wanted, headOnly });
  });

  it.each([
    ['POST', pathOf({ action: 'upload', ...image })],
    ['GET', pathOf({ action: 'upload', ...image })],
    ['PUT', pathOf({ action: 'export', ...image, format: 'raw' })],
    ['PUT', '/v1/namespaces/media/volumesnapshots/s/upload'],
    ['GET', '/v1/namespaces/media/diskimages/debian/disk.vmdk'],
    ['GET', '/v1/namespaces/media/diskimages/debian'],
    ['GET', '/v1/namespaces/media/diskimages/debian/disk.raw/more'],
    ['GET', '/v1/namespaces/media/secrets/token/disk.raw'],
    ['GET', '/v1/namespaces//diskimages/debian/disk.raw'],
    ['GET', '/v1/namespaces/a.b/diskimages/debian/disk.raw'],
    ['GET', '/v1/namespaces/media/diskimages/%2e%2e/disk.raw'],
    ['GET', '/v1/namespaces/media/diskimages/a%2fb/disk.raw'],
    ['GET', '/v1/namespaces/media/diskimages/%ff/disk.raw'],
    ['GET', `/v1/namespaces/media/diskimages/${'a'.repeat(254)}/disk.raw`],
    ['GET', '/v2/namespaces/media/diskimages/debian/disk.raw'],
    ['GET', '//'],
    ['GET', ''],
  ])('%s %s is nothing that is answered', (method, url) => {
    expect(() => parse(method, url)).toThrow('nothing answers');
  });

  it('is not told of again but for its path, as the rest may be a token', () => {
    expect(() => parse('GET', '/v1/other?token=secret')).toThrow(/^nothing answers GET \/v1\/other$/);
  });
});

describe('the token', () => {
  it.each(['Bearer abc.DEF-1_2~3+4/5==', 'bearer  abc '])('is in the header: %s', (header) => {
    expect(tokenIn(header)).toMatch(/^abc/);
  });

  it.each([undefined, '', 'Basic Z29vZA==', 'Bearer', 'Bearer a b', 'Bearer ä'])('is not in %s', (header) => {
    expect(tokenIn(header)).toBeUndefined();
  });
});
