import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { selfSignedCertificate } from '../../src/lib/certificate.ts';
import { sha256 } from '../fakes/image-registry.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { digestOfHeir } from './heirs.ts';
import { conditionOf } from './kubectl.ts';
import { diskImage, importRights } from './objects.ts';
import { stories } from './stories.ts';

const bytes = 48 * MiB;
const content = randomBytes(bytes);

/** The node plugin waits for half a minute for a server that says nothing, and for up to a minute between two attempts. */
const timeout = 240_000;

stories('servers of images that fail', (scene) => {
  /** On this machine, which the nodes reach. */
  let server: ImageServer;
  let url: string;

  beforeAll(async () => {
    server = await ImageServer.start(await scene().cluster.hostAddress());
    url = server.put('/disk.raw', content);
  });
  beforeEach(() => {
    server.answer = () => false;
    server.breakAfter = Number.POSITIVE_INFINITY;
    server.requests.length = 0;
  });
  afterAll(() => server.close());

  /** Declares a DiskImage of what the server has. */
  async function declare(name: string, more: object = {}): Promise<void> {
    const checksum = sha256(content);
    const [nodeName] = scene().cluster.workers;
    await scene().kubectl.apply(
      diskImage(name, { nodeName, source: { type: 'http', http: { url, checksum, ...more } } }),
    );
  }

  const untilSaid = (name: string, words: string) => scene().kubectl.untilSaid('diskimage', name, words);

  /** Waits until it is ready, and compares what a volume has that starts from it. */
  async function expectWhole(name: string, wanted = content): Promise<void> {
    const { kubectl } = scene();
    await kubectl.run(['wait', `diskimage/${name}`, '--for=condition=Ready', '--timeout=180s'], { timeoutMs: 200_000 });
    expect((await kubectl.get('diskimage', name))?.status.digest).toBe(sha256(wanted));
    expect(await digestOfHeir(kubectl, name, wanted.length)).toBe(sha256(wanted));
    await kubectl.remove('diskimage', name);
  }

  it.each([403, 500])('answer %d: that is told, and tried again until they do not', { timeout }, async (status) => {
    server.answer = (_, response) => Boolean(response.writeHead(status).end());
    const name = `answered-${status}`;
    await declare(name);
    await untilSaid(name, `answers ${status}`);
    server.answer = () => false;
    await expectWhole(name);
  });

  it('stall: they are asked again for what is missing, and for nothing else', { timeout }, async () => {
    server.answer = (_, response) => {
      if (server.requests.length > 1) return false;
      response.writeHead(200, { etag: `"${sha256(content)}"`, 'content-length': bytes });
      return response.write(content.subarray(0, bytes / 2)) || true;
    };
    await declare('stalled');
    await expectWhole('stalled');
    expect(server.requests.map(({ headers }) => headers.range)).toEqual([
      undefined,
      expect.stringMatching(/^bytes=[1-9]\d+-$/),
    ]);
  });

  it('promise more than they send: nothing is made of a part', { timeout }, async () => {
    const part = content.subarray(0, MiB);
    server.answer = (_, response) => {
      response.writeHead(200, { 'content-length': bytes });
      return response.write(part, () => response.destroy()) || true;
    };
    await declare('promised');
    await untilSaid('promised', url);
    expect((await scene().kubectl.get('diskimage', 'promised'))?.status.digest).toBeUndefined();
    server.answer = () => false;
    await expectWhole('promised');
  });

  it('send less than there is as if that were all: the checksum says so', { timeout }, async () => {
    const part = content.subarray(0, bytes / 2);
    server.answer = (_, response) => Boolean(response.writeHead(200, { 'content-length': part.length }).end(part));
    await declare('halved');
    const { kubectl } = scene();
    await kubectl.untilObject(
      'diskimage',
      'halved',
      (image) => conditionOf(image, 'Ready')?.reason === 'ChecksumMismatch',
    );
    const { message } = conditionOf((await kubectl.get('diskimage', 'halved')) ?? expect.fail(), 'Ready') ?? {};
    for (const each of [part, content]) expect(message).toContain(sha256(each));
    await kubectl.remove('diskimage', 'halved');
  });

  it('change the file between two ranges: it is begun anew, and no two are mixed', { timeout }, async () => {
    const changed = randomBytes(bytes);
    server.breakAfter = 20 * MiB;
    server.answer = ({ headers }) => {
      if (headers.range !== undefined) {
        server.put('/disk.raw', changed);
        server.breakAfter = Number.POSITIVE_INFINITY;
      }
      return false;
    };
    await declare('changed', { checksum: sha256(changed) });
    await expectWhole('changed', changed);
    server.put('/disk.raw', content);
  });

  it('redirect for ever: that is told, and followed when it ends', { timeout }, async () => {
    server.answer = (_, response) => Boolean(response.writeHead(302, { location: '/disk.raw' }).end());
    await declare('redirected');
    await untilSaid('redirected', 'redirect');
    server.answer = () => false;
    await expectWhole('redirected');
  });

  it('have a certificate from nobody who is trusted: only by its authority it is', { timeout }, async () => {
    const { kubectl, cluster } = scene();
    const address = await cluster.hostAddress();
    const names = { commonName: 'images', names: [address] };
    const certified = await selfSignedCertificate({ ...names, now: new Date(), lifetimeMs: 3_600_000 });
    const secure = await ImageServer.start(address, certified);
    try {
      const there = secure.put('/disk.raw', content);
      await declare('distrusted', { url: there });
      await untilSaid('distrusted', 'certificateAuthority');
      expect(secure.requests).toEqual([]);
      await kubectl.remove('diskimage', 'distrusted');
      await kubectl.apply(
        {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: 'images-ca' },
          data: { 'ca.crt': certified.certificate },
        },
        importRights,
      );
      await declare('trusted', { url: there, certificateAuthority: 'images-ca' });
      await expectWhole('trusted');
    } finally {
      await secure.close();
    }
  });

  it('serve two DiskImages at once: both are whole, and live without each other', { timeout }, async () => {
    // Both are on their way before either can end.
    const held: ServerResponse[] = [];
    server.answer = (_, response) => {
      if (held.length >= 2) return false;
      if (held.push(response) === 2) for (const each of held) each.writeHead(503).end();
      return true;
    };
    for (const name of ['one', 'two']) await declare(name);
    await expectWhole('one');
    await expectWhole('two');
  });
});
