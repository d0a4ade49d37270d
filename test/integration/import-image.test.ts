import { createHash, randomBytes } from 'node:crypto';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { selfSignedCertificate } from '../../src/lib/certificate.ts';
import { pause, systemClock } from '../../src/lib/clock.ts';
import { TokenBucket } from '../../src/lib/token-bucket.ts';
import { checkPool } from '../../src/store/check.ts';
import { ensureIncoming } from '../../src/store/incoming.ts';
import type { ImageRecord } from '../../src/store/records.ts';
import { discardImport } from '../../src/transfer/import/import-image.ts';
import type { ImportContext } from '../../src/transfer/import/import-request.ts';
import { type DetachedPool, expectPattern } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { importFrom, ImportPool, makeImage } from '../import-scene.ts';
import { processesNaming } from '../standalone.ts';

describe('importing from a web server', () => {
  let pool: ImportPool;
  let directory: string;
  let detached: DetachedPool;
  let context: ImportContext;
  let server: ImageServer;
  beforeEach(async () => {
    pool = await ImportPool.open();
    ({ directory, detached, context } = pool);
    server = await ImageServer.start();
  });
  afterEach(async () => {
    await server.close();
    await pool.remove();
  });

  const sum = (algorithm: string, bytes: Buffer) => `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
  const left = () => pool.left();

  async function expectGolden(image: ImageRecord): Promise<void> {
    expectPattern(detached, image.layer, 0, 0, MiB);
    expectPattern(detached, image.layer, 0x41, MiB, 3 * MiB);
    expect(left()).toEqual([]);
    expect(await checkPool(detached.directory, () => {})).toMatchObject({ problems: [], leftovers: [] });
    expect(await processesNaming(directory)).toEqual([]);
  }

  async function expectNothing(): Promise<void> {
    expect([detached.pool.images.size, detached.pool.layers.size]).toEqual([0, 0]);
    expect(left()).toEqual([]);
    expect(await processesNaming(directory)).toEqual([]);
  }

  it('takes a qcow2 as it is, with its digest', async () => {
    const bytes = makeImage(directory, 'qcow2');
    const image = await importFrom(context, { url: server.put('/a', bytes), checksum: sum('sha512', bytes) });
    expect(image).toMatchObject({ name: 'golden', digest: sum('sha256', bytes), sizeBytes: 16 * MiB });
    const { path: file } = detached.pool.chainLayer(image.layer);
    expect([statSync(file).size, statSync(file).mode & 0o777, statSync(file).uid]).toEqual([bytes.length, 0o444, 0]);
    await expectGolden(image);
    expect(await importFrom(context, { url: server.put('/a', bytes) })).toEqual(image);
    expect(server.requests).toHaveLength(1);
  });

  it.each([
    ['qcow2', ['-o', 'compat=0.10'], 'qcow2'],
    ['qcow2', ['-o', 'cluster_size=4k'], 'qcow2'],
    ['qcow2', [], 'raw'],
    ['raw', [], 'qcow2'],
    ['raw', [], 'raw'],
  ] as const)('makes of %s %j a sparse %s', async (from, options, format) => {
    const image = await importFrom(context, { url: server.put('/a', makeImage(directory, from, options)), format });
    const { path: file, format: made } = detached.pool.chainLayer(image.layer);
    expect([made, statSync(file).uid]).toEqual([format, 0]);
    expect(statSync(file).blocks * 512).toBeLessThan(5 * MiB);
    await expectGolden(image);
  });

  it.each(['qcow2', 'raw'] as const)(
    'makes a %s as big as is asked for, and refuses what does not fit',
    async (format) => {
      const url = server.put('/a', makeImage(directory, format));
      const tooSmall = importFrom(context, { url, format, sizeBytes: 8 * MiB });
      await expect(tooSmall).rejects.toMatchObject({ code: 'size-out-of-range' });
      await expectNothing();
      const image = await importFrom(context, { url, format, sizeBytes: 32 * MiB });
      expect(image.sizeBytes).toBe(32 * MiB);
      expectPattern(detached, image.layer, 0, 16 * MiB, 16 * MiB);
      await expectGolden(image);
    },
  );

  it('goes on by ranges after each broken connection', async () => {
    const bytes = makeImage(directory, 'qcow2');
    server.breakAfter = MiB;
    await expectGolden(await importFrom(context, { url: server.put('/a', bytes), checksum: sum('sha256', bytes) }));
    expect(server.requests.at(-1)?.headers.range).toMatch(/^bytes=[1-9]/);
  });

  it('begins anew when the file changes between two ranges', async () => {
    const url = server.put('/a', makeImage(directory, 'qcow2', ['-o', 'cluster_size=2M']));
    const bytes = makeImage(directory, 'qcow2');
    server.breakAfter = MiB;
    server.answer = ({ headers }) => {
      if (headers.range !== undefined) server.put('/a', bytes);
      return false;
    };
    await expectGolden(await importFrom(context, { url, checksum: sum('sha256', bytes) }));
  });

  it.each([
    ['ETag', { etag: '"other"' }],
    ['Last-Modified', { 'last-modified': 'Sat, 28 Nov 2026 10:00:01 GMT' }],
  ])('begins anew where a server that knows no If-Range gives the rest of another file, by its %s', async (_, head) => {
    const first = makeImage(directory, 'qcow2', ['-o', 'cluster_size=2M']);
    const bytes = makeImage(directory, 'qcow2');
    server.answer = ({ headers }, response) => {
      const before = 'etag' in head ? { etag: '"one"' } : { 'last-modified': 'Sat, 28 Nov 2026 10:00:00 GMT' };
      const [, from] = /^bytes=(\d+)-$/.exec(headers.range ?? '') ?? [];
      if (server.requests.length === 1) {
        response.writeHead(200, { ...before, 'content-length': first.length });
        response.write(first.subarray(0, MiB), () => response.destroy());
      } else if (from === undefined) {
        response.writeHead(200, head).end(bytes);
      } else {
        const range = `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
        response.writeHead(206, { ...head, 'content-range': range }).end(bytes.subarray(Number(from)));
      }
      return true;
    };
    const image = await importFrom(context, { url: `${server.origin}/a` });
    expect(image.digest).toBe(sum('sha256', bytes));
    await expectGolden(image);
  });

  it('keeps nothing of a wrong checksum, and names both', async () => {
    const bytes = makeImage(directory, 'qcow2');
    const checksum = `sha256:${'0'.repeat(64)}`;
    const failed = importFrom(context, { url: server.put('/a', bytes), checksum });
    await expect(failed).rejects.toMatchObject({
      code: 'checksum-mismatch',
      message: expect.stringMatching(new RegExp(`${sum('sha256', bytes)}.*${checksum}`)),
    });
    await expectNothing();
  });

  it.each([404, 403, 401])('is denied by %d at once', async (status) => {
    server.answer = (_, response) => Boolean(response.writeHead(status).end());
    await expect(importFrom(context, { url: `${server.origin}/a` })).rejects.toMatchObject({ code: 'source-denied' });
    expect(server.requests).toHaveLength(1);
  });

  it.each(['http://127.0.0.1:99999/a', 'http://[::1/a', 'http://%zz/a'])('refuses the URL %s for good', async (url) => {
    const failed: unknown = await importFrom(context, { url }).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: 'invalid-parameter', message: expect.stringContaining(url) });
    await expectNothing();
  });

  it('sends a header of a Secret without the line end that editors leave, and never two of one', async () => {
    const url = server.put('/a', makeImage(directory, 'qcow2'));
    const smuggled = importFrom(context, { url, headers: { 'x-token': 'abc\r\nX-Other: 1' } });
    await expect(smuggled).rejects.toMatchObject({
      code: 'source-denied',
      message: expect.not.stringContaining('abc'),
    });
    await expectGolden(await importFrom(context, { url, headers: { 'x-token': 'abc\n' } }));
    expect(server.requests.map(({ headers }) => headers['x-token'])).toEqual(['abc']);
  });

  it('tries again what may pass: 500, and a server that stalls', async () => {
    const url = server.put('/a', makeImage(directory, 'qcow2'));
    server.answer = (_, response) => {
      if (server.requests.length === 1) return Boolean(response.writeHead(500).end());
      return server.requests.length === 2;
    };
    await expectGolden(await importFrom({ ...context, stallMs: 1000 }, { url }));
    expect(server.requests).toHaveLength(3);
  });

  it('does not give up a server that waits for this side, which is slow', async () => {
    const bytes = randomBytes(3 * MiB);
    // It can only begin anew.
    server.answer = (_, response) => Boolean(response.writeHead(200, { 'content-length': bytes.length }).end(bytes));
    const limit = new TokenBucket(MiB, systemClock);
    let takes = 0;
    limit.take = async (_, signal) => {
      if (++takes <= 2) await pause(systemClock, 4500, signal);
    };
    const image = await importFrom({ ...context, limit, stallMs: 2000 }, { url: `${server.origin}/a`, format: 'raw' });
    expect(image.digest).toBe(sum('sha256', bytes));
    expect(server.requests).toHaveLength(1);
  });

  it('gives up a server that breaks off again and again, sooner or later, where it cannot go on', async () => {
    const parts = [100, 200, 50, 150];
    server.answer = (_, response) => {
      response.writeHead(200, { 'content-length': MiB });
      const part = parts[server.requests.length % parts.length] ?? 0;
      response.write(Buffer.alloc(part), () => response.destroy());
      return true;
    };
    const failed = importFrom(context, { url: `${server.origin}/a` });
    await expect(failed).rejects.toMatchObject({ code: 'source-unavailable' });
    expect(server.requests.length).toBeLessThan(12);
  });

  it('gives a length up that is a lie', async () => {
    server.answer = (_, response) => Boolean(response.writeHead(200, { 'content-length': '1000' }).end('short'));
    const failed = importFrom(context, { url: `${server.origin}/a` });
    await expect(failed).rejects.toMatchObject({ code: 'source-unavailable' });
    expect(detached.pool.images.size).toBe(0);
  });

  it('follows redirects, without secret headers to another origin, and not for ever', async () => {
    const other = await ImageServer.start();
    try {
      const there = other.put('/there', makeImage(directory, 'qcow2'));
      server.answer = ({ url }, response) =>
        Boolean(response.writeHead(302, { location: url === '/a' ? '/b' : url === '/b' ? there : '/loop' }).end());
      const headers = { authorization: 'Bearer secret' };
      await expectGolden(await importFrom(context, { url: `${server.origin}/a`, headers }));
      expect(server.requests.map((request) => request.headers.authorization)).toEqual(Array(2).fill('Bearer secret'));
      expect(other.requests[0]?.headers.authorization).toBeUndefined();
      const endless = importFrom(context, { name: 'other', url: `${server.origin}/loop` });
      await expect(endless).rejects.toMatchObject({ code: 'source-denied' });
    } finally {
      await other.close();
    }
  });

  it.each([
    'http://127.0.0.1:1/a?signature=secret',
    'ftp://example.org/a?signature=secret',
    '//%zz/a?signature=secret',
  ])('says nothing of what a server gives to those who have logged in: %s', async (location) => {
    server.answer = (_, response) => Boolean(response.writeHead(302, { location }).end());
    const failed: unknown = await importFrom(context, { url: `${server.origin}/a` }).catch((error: unknown) => error);
    expect(failed).toMatchObject({
      code: expect.stringMatching(/^source-/),
      message: expect.not.stringContaining('secret'),
    });
  });

  it('trusts by TLS whom all programs trust, or only the authority that is named', async () => {
    const lifetimeMs = 3_600_000;
    const certify = (name: string) =>
      selfSignedCertificate({ commonName: name, names: [name], now: new Date(), lifetimeMs });
    const [own, other, elsewhere] = await Promise.all(['127.0.0.1', '127.0.0.1', '192.0.2.1'].map(certify));
    const secure = await ImageServer.start('127.0.0.1', own);
    const misnamed = await ImageServer.start('127.0.0.1', elsewhere);
    try {
      const url = secure.put('/a', makeImage(directory, 'qcow2'));
      const denied = { code: 'source-denied', message: expect.stringContaining('certificateAuthority') };
      await expect(importFrom(context, { url })).rejects.toMatchObject(denied);
      const certificateAuthority = other?.certificate ?? '';
      await expect(importFrom(context, { url, certificateAuthority })).rejects.toMatchObject(denied);
      const wrong = importFrom(context, {
        url: `${misnamed.origin}/a`,
        certificateAuthority: elsewhere?.certificate ?? '',
      });
      await expect(wrong).rejects.toMatchObject({
        code: 'source-unavailable',
        message: expect.stringMatching(/altnames/),
      });
      expect([secure.requests, misnamed.requests]).toEqual([[], []]);
      await expectGolden(await importFrom(context, { url, certificateAuthority: own?.certificate ?? '' }));
    } finally {
      await secure.close();
      await misnamed.close();
    }
  });

  it('keeps what has come when it is aborted, and goes on with it', async () => {
    const bytes = makeImage(directory, 'qcow2');
    const url = server.put('/a', bytes);
    const controller = new AbortController();
    const onProgress = ({ stage }: { stage: string }) => {
      if (stage === 'downloading') controller.abort(new Error('enough'));
    };
    await expect(importFrom(context, { url, signal: controller.signal, onProgress })).rejects.toThrow('enough');
    await expectGolden(await importFrom(context, { url, checksum: sum('sha256', bytes) }));
  });

  it('ends at once when it is aborted while it reads what has come before, however much that is', async () => {
    const url = `${server.origin}/a`;
    const incoming = await ensureIncoming(detached.pool, 'image_golden');
    // All of it reads as zeroes, and takes no space.
    const offsetBytes = 64 * GiB;
    writeFileSync(path.join(incoming, 'download'), '');
    truncateSync(path.join(incoming, 'download'), offsetBytes);
    const source = JSON.stringify({ url, checksum: null });
    const record = { version: 1, source, validator: '"one"', offsetBytes, complete: false };
    writeFileSync(path.join(incoming, 'import.json'), JSON.stringify(record));
    const started = performance.now();
    await expect(importFrom(context, { url, signal: AbortSignal.timeout(500) })).rejects.toThrow('timeout');
    expect(performance.now() - started).toBeLessThan(5000);
    expect(server.requests).toEqual([]);
    expect(statSync(path.join(incoming, 'download')).size).toBe(offsetBytes);
  });

  it.each([404, 503])('is told of %d, in whatever encoding the page of the error is', async (status) => {
    const page = { 'content-encoding': 'gzip' };
    server.answer = (_, response) => Boolean(response.writeHead(status, page).end());
    const failed = importFrom(context, { url: `${server.origin}/a` });
    await expect(failed).rejects.toThrow(`answers ${status}`);
  });

  it('lets go of what has come where nobody wants the image any more', async () => {
    const url = server.put('/a', makeImage(directory, 'qcow2'));
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error('deleted'));
    await expect(importFrom(context, { url, signal: controller.signal, onProgress })).rejects.toThrow('deleted');
    server.answer = (_, response) => Boolean(response.writeHead(404).end());
    await expect(importFrom(context, { url })).rejects.toMatchObject({ code: 'source-denied' });
    expect(left()).toEqual(['image_golden']);
    await discardImport(context, 'golden');
    await expectNothing();
  });
});
