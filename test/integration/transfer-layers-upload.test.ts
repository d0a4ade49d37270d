import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { connect } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../src/lib/bytes.ts';
import { LaminaError } from '../../src/lib/errors.ts';
import type { UploadPart, UploadSink } from '../../src/transfer/users/take-upload.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { remoteName, UserScene } from '../user-scene.ts';

/** Keeps what comes, and lets go of the connection after `breakAfter` bytes. */
class MemorySink implements UploadSink {
  readonly parts: UploadPart[] = [];
  received = Buffer.alloc(0);
  breakAfter = Number.POSITIVE_INFINITY;

  get receivedBytes(): number {
    return this.received.length;
  }

  async take(bytes: AsyncIterable<Buffer>, part: UploadPart): Promise<void> {
    this.parts.push(part);
    this.received = this.received.subarray(0, part.fromBytes);
    for await (const chunk of bytes) {
      this.received = Buffer.concat([this.received, chunk]);
      if (this.received.length >= this.breakAfter) throw new LaminaError('pool-full', 'there is no more room');
    }
  }
}

describe('upload', () => {
  let directory: string;
  let scene: UserScene;
  let sink: MemorySink;
  let file: string;
  const content = randomBytes(5 * MiB);
  const where = '/diskimages/golden/upload';

  beforeEach(async () => {
    directory = temporaryDirectory();
    file = path.join(directory, 'file');
    writeFileSync(file, content);
    sink = new MemorySink();
    scene = await UserScene.create(directory, {
      uploadSink: async (id) => {
        if (id === 'golden') return sink;
        throw new LaminaError('image-not-found', `no image ${id} waits for a file`);
      },
    });
  });
  afterEach(async () => {
    await scene.close();
    removeDirectory(directory);
  });

  const offset = async () => (await scene.ask('HEAD', where)).headers['upload-offset'];

  it('takes a file from curl', async () => {
    expect(JSON.parse(await scene.curl(where, '-T', file))).toEqual({ receivedBytes: content.length });
    expect(sink.received.equals(content)).toBe(true);
    expect(sink.parts).toMatchObject([{ fromBytes: 0, totalBytes: content.length }]);
    expect(scene.moves).toEqual([{ kind: 'upload', bytes: content.length, result: 'done' }]);
  });

  it('takes a stream of which nobody knows the length', async () => {
    await scene.curl(where, '-X', 'PUT', '-H', 'Transfer-Encoding: chunked', '--data-binary', `@${file}`);
    expect(sink.received.equals(content)).toBe(true);
    expect(sink.parts).toMatchObject([{ fromBytes: 0, totalBytes: null }]);
  });

  it('says how much has come, and takes the rest of it from curl', async () => {
    sink.breakAfter = MiB;
    await expect(scene.curl(where, '-T', file)).rejects.toThrow('507');
    expect(scene.moves).toMatchObject([{ result: 'failed' }]);
    sink.breakAfter = Number.POSITIVE_INFINITY;
    const received = Number(await offset());
    expect(received).toBeGreaterThanOrEqual(MiB);
    expect(received).toBeLessThan(content.length);
    await scene.curl(where, '-T', file, '--continue-at', String(received));
    expect(sink.received.equals(content)).toBe(true);
    expect(sink.parts.at(-1)).toMatchObject({ fromBytes: received, totalBytes: content.length });
  });

  it('says why it takes no more to who reads that only when all is sent', async () => {
    sink.breakAfter = MiB;
    const { hostname, port, pathname } = new URL(scene.url + where);
    const socket = connect({ host: hostname, port: Number(port), ca: scene.certificateAuthority });
    socket.on('error', () => {});
    const head = ['Host: localhost', 'Authorization: Bearer good', `Content-Length: ${content.length}`];
    socket.write(`PUT ${pathname} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`);
    socket.write(content.subarray(0, 2 * MiB));
    await expect.poll(() => scene.moves).toMatchObject([{ result: 'failed' }]);
    for (let at = 2 * MiB; at < content.length; at += 64 * KiB) {
      const { promise: sent, resolve } = Promise.withResolvers<unknown>();
      socket.write(content.subarray(at, at + 64 * KiB), resolve);
      expect((await sent) ?? null).toBe(null);
    }
    const answer = Buffer.concat((await socket.toArray()) as Buffer[]);
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 507 /);
  });

  it('begins anew where the whole file comes again', async () => {
    sink.received = Buffer.alloc(100);
    await scene.curl(where, '-T', file);
    expect(sink.received.equals(content)).toBe(true);
  });

  it('refuses a part that does not follow, or of which it is not clear', async () => {
    sink.received = Buffer.alloc(100);
    const put = (range: string, body: Buffer) => scene.ask('PUT', where, { 'content-range': range }, body);
    const wrong = await put('bytes 200-299/300', Buffer.alloc(100));
    expect([wrong.status, wrong.headers['upload-offset']]).toEqual([400, '100']);
    expect((await put('bytes 100-199/300', Buffer.alloc(100))).status).toBe(400);
    expect((await put('bytes 100-299/300', Buffer.alloc(100))).status).toBe(400);
    expect((await put('bytes x', Buffer.alloc(100))).status).toBe(400);
    expect(sink.parts).toEqual([]);
  });

  it('reads nothing from who may not, and of what nobody waits for', async () => {
    const expectStatus = async (status: number, id: string, authorization: string) => {
      const headers = { authorization, expect: '100-continue', 'content-length': String(2 ** 40) };
      const answer = await scene.ask('PUT', `/diskimages/${id}/upload`, headers);
      expect([answer.status, answer.headers.connection]).toEqual([status, 'close']);
    };
    await expectStatus(401, 'golden', 'Bearer bad');
    await expectStatus(403, 'golden', 'Bearer poor');
    await expectStatus(421, remoteName, 'Bearer good');
    await expectStatus(404, 'other', 'Bearer good');
    expect(scene.asked.at(-1)).toEqual([
      'good',
      { action: 'upload', namespace: 'media', resource: 'diskimages', name: 'other', headOnly: false },
    ]);
    expect((await scene.ask('PUT', '/volumesnapshots/golden/upload')).status).toBe(400);
    expect((await scene.ask('GET', where)).status).toBe(400);
  });

  it('ends the sink’s work when the connection breaks', async () => {
    let aborted = false;
    sink.take = async (bytes, { signal }) => {
      signal.addEventListener('abort', () => (aborted = true));
      for await (const chunk of bytes) sink.received = Buffer.concat([sink.received, chunk]);
    };
    const sending = new AbortController();
    const broken = scene.ask('PUT', where, { 'content-length': String(content.length) }, undefined, (sent) => {
      sent.write(content.subarray(0, MiB));
      sending.signal.addEventListener('abort', () => sent.destroy());
    });
    const outcome = broken.catch(() => 'broken');
    await expect.poll(() => sink.receivedBytes).toBeGreaterThan(0);
    expect(aborted).toBe(false);
    sending.abort();
    expect(await outcome).toBe('broken');
    await expect.poll(() => aborted).toBe(true);
    await expect.poll(() => scene.moves).toMatchObject([{ kind: 'upload', result: 'stopped' }]);
    expect(sink.receivedBytes).toBeGreaterThan(0);
  });
});
