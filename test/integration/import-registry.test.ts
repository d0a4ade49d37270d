import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import type { ImageRecord } from '../../src/store/records.ts';
import type { ImportContext } from '../../src/transfer/import/import-request.ts';
import { type DetachedPool, expectPattern } from '../detached-pool.ts';
import { ImageRegistry, layerOf, sha256 } from '../fakes/image-registry.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { type ContainedWish, importContained, ImportPool, makeImage } from '../import-scene.ts';
import { processesNaming } from '../standalone.ts';

const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
const other = architecture === 'amd64' ? 'arm64' : 'amd64';

describe('importing from a registry', () => {
  let pool: ImportPool;
  let directory: string;
  let detached: DetachedPool;
  let context: ImportContext;
  let registry: ImageRegistry;
  let disk: Buffer;
  beforeEach(async () => {
    pool = await ImportPool.open();
    ({ directory, detached, context } = pool);
    registry = await ImageRegistry.start();
    disk = makeImage(directory, 'qcow2');
  });
  afterEach(async () => {
    await registry.close();
    await pool.remove();
  });

  const left = () => pool.left();

  const importFrom = (image: string, wish: Omit<ContainedWish, 'image'> = {}) =>
    importContained(context, { image, ...wish });

  async function expectGolden(image: ImageRecord, digest: string): Promise<void> {
    expect(image).toMatchObject({ digest, sizeBytes: 16 * MiB });
    expectPattern(detached, image.layer, 0, 0, MiB);
    expectPattern(detached, image.layer, 0x41, MiB, 3 * MiB);
    expect(left()).toEqual([]);
    expect(await checkPool(detached.directory, () => {})).toMatchObject({ problems: [], leftovers: [] });
    expect(await processesNaming(directory)).toEqual([]);
  }

  async function expectFailure(failed: Promise<unknown>, code: string, message: RegExp): Promise<void> {
    await expect(failed).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect([detached.pool.images.size, detached.pool.layers.size]).toEqual([0, 0]);
    expect(left().filter((name) => !name.startsWith('image_'))).toEqual([]);
    expect(await processesNaming(directory)).toEqual([]);
  }

  it('takes the one file in /disk, and says the digest of the container image', async () => {
    const digest = registry.putImage('13', [await layerOf({ './disk/': Buffer.alloc(0), './disk/a.qcow2': disk })]);
    await expectGolden(await importFrom(`${registry.repository}:13`), digest);
  });

  it('takes what is at a path, whatever else there is', async () => {
    const lower = await layerOf({ 'etc/passwd': Buffer.from('root'), 'images/a.qcow2': disk });
    const digest = registry.putImage('latest', [lower, await layerOf({ 'disk/b.img': Buffer.alloc(512) })]);
    await expectGolden(await importFrom(registry.repository, { path: '/images/a.qcow2' }), digest);
  });

  it.each(['.tar', '.tar+zstd'])('reads layers of %s', async (suffix) => {
    const archive = execFileSync('gzip', ['-dc'], { input: await layerOf({ 'disk/a': disk }), maxBuffer: 64 * MiB });
    const layer = suffix === '.tar' ? archive : execFileSync('zstd', ['-qc'], { input: archive, maxBuffer: 64 * MiB });
    const digest = registry.putImage('13', [layer], `application/vnd.oci.image.layer.v1${suffix}`);
    await expectGolden(await importFrom(`${registry.repository}:13`), digest);
  });

  it('takes the topmost file, and none that a layer above has deleted', async () => {
    const lower = await layerOf({ 'disk/a': Buffer.alloc(512), 'disk/b': disk });
    const digest = registry.putImage('13', [lower, await layerOf({ 'disk/.wh.a': Buffer.alloc(0) })]);
    await expectGolden(await importFrom(`${registry.repository}:13`), digest);
    for (const whiteout of ['.wh.disk', 'disk/.wh..wh..opq', 'disk/.wh.b']) {
      registry.putImage('14', [lower, await layerOf({ [whiteout]: Buffer.alloc(0) })]);
      const failed = importFrom(`${registry.repository}:14`, { name: 'other', path: '/disk/b' });
      await expect(failed).rejects.toMatchObject({
        code: 'image-refused',
        message: expect.stringContaining('no file'),
      });
    }
  });

  it("takes of several the image for this machine's processor, or the only one", async () => {
    const wrong = registry.putImage('x', [await layerOf({ 'disk/a': Buffer.alloc(512) })]);
    const right = registry.putImage('y', [await layerOf({ 'disk/a': disk })]);
    const unknown = { digest: wrong, os: 'unknown', architecture: 'unknown' };
    const images = [
      { digest: wrong, os: 'linux', architecture: other },
      { digest: right, os: 'linux', architecture },
      unknown,
    ];
    const digest = registry.putIndex('13', images);
    await expectGolden(await importFrom(`${registry.repository}:13`), digest);
    registry.putIndex('14', [images[0] as never, unknown]);
    const failed = importFrom(`${registry.repository}:14`, { name: 'other' });
    await expect(failed).rejects.toMatchObject({
      code: 'image-refused',
      message: expect.stringMatching(`no image for linux/${architecture}; there are: linux/${other}`),
    });
  });

  it('takes what a digest names, and nothing else in its place', async () => {
    const digest = registry.putImage('13', [await layerOf({ 'disk/a': disk })]);
    registry.putImage('13', [await layerOf({ 'disk/a': Buffer.alloc(512) })]);
    await expectGolden(await importFrom(`${registry.repository}:13@${digest}`), digest);
    registry.forgeManifest(digest, '13');
    const failed = importFrom(`${registry.repository}@${digest}`, { name: 'other' });
    await expect(failed).rejects.toMatchObject({ code: 'checksum-mismatch' });
  });

  it('refuses a layer that is not what its digest says', async () => {
    const layer = await layerOf({ 'disk/a': disk });
    registry.putImage('13', [layer]);
    const forged = Buffer.from(layer);
    forged.fill(7, 100, 110);
    registry.forgeBlob(sha256(layer), forged);
    await expectFailure(importFrom(`${registry.repository}:13`), 'checksum-mismatch', /is wanted/);
  });

  it('goes on by ranges after each broken connection, with another token where one has run out', async () => {
    const noise = execFileSync('head', ['-c', String(8 * MiB), '/dev/urandom'], { maxBuffer: 64 * MiB });
    const raw = Buffer.concat([noise, Buffer.alloc(8 * MiB)]);
    const digest = registry.putImage('13', [await layerOf({ 'disk/a': raw })]);
    registry.breakAfter = 3 * MiB;
    // Too short for a token to be used twice, and long enough for it to be used once on a busy machine.
    registry.tokenSeconds = 9;
    const image = await importFrom(`${registry.repository}:13`, { format: 'raw' });
    expect(image).toMatchObject({ digest, sizeBytes: 16 * MiB });
    const blobs = registry.requests.filter(({ path: asked }) => asked.includes('/blobs/'));
    expect(blobs.map(({ range }) => range)).toEqual([undefined, `bytes=${3 * MiB}-`, `bytes=${6 * MiB}-`]);
    expect(new Set(blobs.map(({ authorization }) => authorization)).size).toBeGreaterThan(1);
  });

  it.each(['bearer', 'basic'] as const)(
    'logs in by %s with the pull secret, and says where it must',
    async (scheme) => {
      const digest = registry.putImage('13', [await layerOf({ 'disk/a': disk })]);
      registry.login = { user: 'reader', password: 'pass:phrase' };
      registry.scheme = scheme;
      const auth = Buffer.from('reader:pass:phrase').toString('base64');
      const secrets = {
        none: null,
        other: { auths: { 'registry.example.org': { auth } } },
        wrong: { auths: { [registry.host]: { username: 'reader', password: 'no-good' } } },
        broken: { auths: 'x' },
      };
      for (const [name, pullSecret] of Object.entries(secrets)) {
        const failed = importFrom(`${registry.repository}:13`, { name, pullSecret });
        await expect(failed).rejects.toMatchObject({
          code: 'source-denied',
          message: expect.not.stringMatching(/phrase|no-good|cmVhZGV/),
        });
      }
      const pullSecret = { auths: { [`https://${registry.host}/v2/`]: { auth } } };
      await expectGolden(await importFrom(`${registry.repository}:13`, { pullSecret }), digest);
    },
  );

  it('sends no login without TLS to another machine', async () => {
    registry.putImage('13', [await layerOf({ 'disk/a': disk })]);
    registry.realm = 'http://tokens.example.org/token';
    const pullSecret = { auths: { [registry.host]: { username: 'reader', password: 'pass:phrase' } } };
    const failed = importFrom(`${registry.repository}:13`, { pullSecret });
    await expectFailure(failed, 'source-denied', /no https URL for tokens/);
  });

  it('tries again while the registry is in trouble', async () => {
    const digest = registry.putImage('13', [await layerOf({ 'disk/a': disk })]);
    registry.failures = 3;
    await expectGolden(await importFrom(`${registry.repository}:13`), digest);
    registry.failures = 1000;
    const failed = importFrom(`${registry.repository}:13`, { name: 'other' });
    await expect(failed).rejects.toMatchObject({ code: 'source-unavailable', message: expect.stringContaining('503') });
  });

  it('follows to where the blobs are, without the token', async () => {
    const layer = await layerOf({ 'disk/a': disk });
    const digest = registry.putImage('13', [layer]);
    const storage = await ImageServer.start();
    try {
      storage.put(`/${sha256(layer)}`, layer);
      registry.storage = storage.origin;
      await expectGolden(await importFrom(`${registry.repository}:13`), digest);
      expect(storage.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    } finally {
      await storage.close();
    }
  });

  it.each([
    ['of an archive that is cut off', (layer: Buffer) => layer.subarray(0, -1000), /cannot be unpacked|no tar archive/],
    ['that is no archive', () => Buffer.alloc(MiB, 'no archive '), /no tar archive/],
    ['that is empty', () => Buffer.alloc(0), /no file in \/disk|no tar archive/],
  ])('refuses a layer %s', async (_, change, message) => {
    registry.putImage('13', [change(await layerOf({ 'disk/a': disk }))]);
    await expectFailure(importFrom(`${registry.repository}:13`), 'image-refused', message);
    expect(left()).toEqual([]);
  });

  it.each([
    ['several files', { 'disk/a': Buffer.alloc(512, 1), 'disk/b': Buffer.alloc(512, 1) }, /several files/],
    ['no file', { 'etc/passwd': Buffer.from('root') }, /no file in \/disk/],
    ['a link', { 'disk/a': '/etc/passwd' }, /is no file in it, but a symlink/],
    [
      'a file that is elsewhere',
      { '../disk/a': Buffer.alloc(512), 'disk/../../a': Buffer.alloc(512) },
      /no file in \/disk/,
    ],
    ['something else in it', { 'disk/a': Buffer.from('<html>') }, /page for people/],
  ] as const)('refuses %s', async (_, files, message) => {
    registry.putImage('13', [await layerOf(files)]);
    await expectFailure(importFrom(`${registry.repository}:13`), 'image-refused', message);
    expect(left()).toEqual([]);
  });

  it('ends a bomb in a layer at the size that is asked for', async () => {
    registry.putImage('13', [await layerOf({ 'disk/a': Buffer.alloc(256 * MiB) })]);
    const failed = importFrom(`${registry.repository}:13`, { sizeBytes: MiB });
    await expectFailure(failed, 'image-refused', /unpacks to more than/);
    expect(left()).toEqual([]);
  });

  it.each([
    ['what is not there', 'nothing', 'source-denied', /404/],
    ['what is no container image', 'chart', 'image-refused', /manifest is understood/],
    ['layers of another kind', 'foreign', 'image-refused', /layer of the type/],
  ])('says it of %s', async (_, tag, code, message) => {
    registry.putManifest('chart', 'application/json', { schemaVersion: 1 });
    registry.putImage('foreign', [Buffer.from('x')], 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip');
    await expectFailure(importFrom(`${registry.repository}:${tag}`), code, message);
  });
});
