import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { configMapType, secretType } from '../../src/kube/kinds/core-kinds.ts';
import { findCondition } from '../../src/kube/conditions.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { findOrphans } from '../../src/reconcile/node/orphans.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { makeImage } from '../import-scene.ts';
import { NodeScene, nodeName } from '../node-scene.ts';

let directory: string;
let scene: NodeScene;
let server: ImageServer;

beforeEach(async () => {
  directory = temporaryDirectory();
  scene = await NodeScene.start(directory);
  server = await ImageServer.start();
});
afterEach(async () => {
  await scene.stop();
  await server.close();
  removeDirectory(directory);
});

const http = (url: string, more: object = {}) => ({
  size: undefined,
  source: { type: 'http', http: { url, ...more } },
});
const filesIn = (name: string) => readdirSync(path.join(directory, name));
const readyOf = async (name: string) => {
  const { status, reason, message } = findCondition((await scene.image(name))?.status.conditions ?? [], 'Ready') ?? {};
  return { status, reason, message };
};

/** Reconciles until the import has ended, well or not. */
async function settled(name: string): Promise<void> {
  await expect
    .poll(async () => {
      await scene.reconcileImage(name);
      return (await readyOf(name)).reason;
    })
    .not.toBe('Importing');
}

/** What has failed before stays so for a while. */
async function made(name: string): Promise<void> {
  const reason = async () => {
    await scene.reconcileImage(name);
    return (await readyOf(name)).reason;
  };
  await expect.poll(reason, { timeout: 60_000 }).toBe('Made');
}

describe('a DiskImage from a web server', () => {
  it('is imported, says so, and disks start from it', async () => {
    const bytes = makeImage(directory, 'qcow2');
    const hex = createHash('sha256').update(bytes).digest('hex');
    scene.declareImage('golden', http(server.put('/golden.qcow2', bytes), { checksum: `sha256:${hex}` }));
    expect(await scene.reconcileImage('golden')).toEqual({ againAfterMs: 2000 });
    expect(await readyOf('golden')).toMatchObject({ status: 'False', reason: 'Importing' });
    await settled('golden');
    const golden = await scene.image('golden');
    expect(golden?.status).toMatchObject({ virtualSize: 16 * MiB, format: 'qcow2', digest: `sha256:${hex}` });
    expect(golden?.status.progress).toBeUndefined();
    expect(await readyOf('golden')).toMatchObject({ status: 'True', reason: 'Made' });
    scene.declareImage('heir', { size: '32Mi', source: { type: 'diskImage', diskImage: { name: 'golden' } } });
    await scene.reconcileImage('heir');
    expect((await scene.image('heir'))?.status).toMatchObject({ virtualSize: 32 * MiB, chainDepth: 2 });
    expect(scene.events.map(({ reason }) => reason)).toEqual(['Importing', 'Made']);
    const sum = scene.moved.reduce<number>((all, each) => all + (typeof each === 'number' ? each : 0), 0);
    expect([scene.moved[0], sum, scene.moved.at(-1)]).toEqual(['import', bytes.length, 'done']);
  });

  it('is written once: where nothing changes, nothing is written', async () => {
    scene.declareImage('golden', http(server.put('/golden.qcow2', makeImage(directory, 'qcow2'))));
    await settled('golden');
    scene.takeWrites();
    await scene.reconcileImage('golden');
    expect(scene.takeWrites()).toBe(0);
  });

  it('fails for good where the checksum is another one, says both, and is not asked for again', async () => {
    const url = server.put('/golden.qcow2', makeImage(directory, 'qcow2'));
    scene.declareImage('golden', http(url, { checksum: `sha256:${'0'.repeat(64)}` }));
    await settled('golden');
    const { reason, message } = await readyOf('golden');
    expect(reason).toBe('ChecksumMismatch');
    expect(message).toContain('0'.repeat(64));
    const requests = server.requests.length;
    expect(await scene.reconcileImage('golden')).toBe('done');
    expect(server.requests.length).toBe(requests);
    expect(filesIn('incoming')).toEqual([]);
  });

  it('is tried again where the server does not have it yet', async () => {
    const bytes = makeImage(directory, 'qcow2');
    scene.declareImage('golden', http(`${server.origin}/golden.qcow2`));
    await settled('golden');
    expect((await readyOf('golden')).status).toBe('False');
    const told = scene.events.length;
    server.put('/golden.qcow2', bytes);
    scene.takeWrites();
    expect(await scene.reconcileImage('golden')).toEqual({ againAfterMs: expect.closeTo(5000, -4) });
    expect([server.requests.length, scene.takeWrites(), scene.events.length]).toEqual([1, 0, told]);
    await made('golden');
    expect(server.requests).toHaveLength(2);
  });

  it('is refused as a disk of its own, and no blank disk is made', async () => {
    const url = server.put('/golden.qcow2', makeImage(directory, 'qcow2'));
    scene.declareImage('mine', { ...http(url), size: '64Mi', sealed: false });
    await scene.reconcileImage('mine');
    expect(await readyOf('mine')).toMatchObject({ status: 'False', reason: 'InvalidParameter' });
    expect((await readyOf('mine')).message).toContain('source.diskImage');
    expect([filesIn('disks'), filesIn('layers')]).toEqual([[], []]);
    expect(server.requests).toEqual([]);
  });

  it('leaves nothing behind when it is deleted while it is imported', async () => {
    server.answer = () => true;
    scene.declareImage('golden', http(server.put('/golden.qcow2', makeImage(directory, 'qcow2'))));
    await scene.reconcileImage('golden');
    await expect.poll(() => server.requests.length).toBe(1);
    scene.deleteImage('golden');
    await scene.reconcileImage('golden');
    expect(await scene.image('golden')).toBeUndefined();
    expect([filesIn('incoming'), filesIn('layers'), filesIn('images')]).toEqual([[], [], []]);
  });

  it('is not made any more when it vanishes without being deleted: nobody has declared it', async () => {
    const bytes = randomBytes(2 * MiB);
    const held = Promise.withResolvers<() => void>();
    server.answer = (_, response) => {
      response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, MiB));
      held.resolve(() => response.end(bytes.subarray(MiB)));
      return true;
    };
    scene.declareImage('golden', { ...http(`${server.origin}/golden.raw`), format: 'raw' });
    await scene.reconcileImage('golden');
    const goOn = await held.promise;
    const ref = { namespace: 'media', name: 'golden' };
    await scene.context.imageClient.mergePatch(ref, { metadata: { finalizers: null } });
    scene.deleteImage('golden');
    await scene.reconcileImage('golden');
    goOn();
    expect(scene.imports.has('media/golden')).toBe(false);
    expect([filesIn('layers'), filesIn('images')]).toEqual([[], []]);
  });

  it('says of a failure as much as an object may hold', async () => {
    const location = `ftp://example.org/${'x'.repeat(8000)}`;
    server.answer = (_, response) => Boolean(response.writeHead(302, { location }).end());
    scene.declareImage('golden', http(`${server.origin}/golden.qcow2`));
    await settled('golden');
    expect(await readyOf('golden')).toMatchObject({ reason: 'SourceDenied' });
    expect((await readyOf('golden')).message).toHaveLength(4096);
  });

  it('says that its URL is none, once and for all', async () => {
    scene.declareImage('golden', http('http://example.org:99999/golden.qcow2'));
    await settled('golden');
    expect(await readyOf('golden')).toMatchObject({ reason: 'InvalidParameter' });
    expect(await scene.reconcileImage('golden')).toBe('done');
  });

  it('sends headers of a Secret, and says what to do where there is none', async () => {
    const url = server.put('/golden.qcow2', makeImage(directory, 'qcow2'));
    scene.declareImage('golden', http(url, { headersSecret: 'token' }));
    await settled('golden');
    expect(await readyOf('golden')).toMatchObject({ reason: 'SourceDenied' });
    expect((await readyOf('golden')).message).toContain('there is no Secret token');
    const data = { Authorization: Buffer.from('Bearer abc').toString('base64') };
    scene.declare(secretType, 'media', { metadata: { name: 'token' }, data });
    await made('golden');
    expect(server.requests.at(-1)?.headers.authorization).toBe('Bearer abc');
  });

  it('wants the certificates under the key that all of Kubernetes uses', async () => {
    scene.declare(configMapType, 'media', { metadata: { name: 'authority' }, data: { other: '' } });
    scene.declare(configMapType, 'media', { metadata: { name: 'empty' }, data: { 'ca.crt': '' } });
    for (const certificateAuthority of ['authority', 'empty']) {
      const url = `${server.origin}/golden.qcow2`;
      scene.declareImage(certificateAuthority, http(url, { certificateAuthority }));
      await settled(certificateAuthority);
      const { reason, message } = await readyOf(certificateAuthority);
      expect([reason, message]).toEqual(['SourceDenied', expect.stringContaining('ca.crt')]);
    }
  });
});

describe('a disk of a DiskImage of another node', () => {
  it('starts from the copy of that which its own node has, and fetches nothing', async () => {
    scene.declareImage('copy', http(server.put('/golden.qcow2', makeImage(directory, 'qcow2'))));
    await settled('copy');
    const id = (await scene.image('copy'))?.status.diskId;
    const source = { type: 'diskImage', diskImage: { name: 'elsewhere' } };
    scene.declareImage('heir', { size: '32Mi', source });
    await scene.reconcileImage('heir');
    expect(await readyOf('heir')).toMatchObject({ reason: 'WaitingForSource' });
    const origin = { kind: 'image', id, nodeName, pool: 'default' };
    scene.report('heir', { origin });
    await scene.reconcileImage('heir');
    expect(await readyOf('heir')).toMatchObject({ reason: 'Made' });
    expect((await scene.image('heir'))?.status).toMatchObject({ virtualSize: 32 * MiB, chainDepth: 2 });
  });
});

describe('a sealed DiskImage of a disk', () => {
  it('shares the content, and keeps it when the disk is gone', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    const source = { type: 'diskImage', diskImage: { name: 'scratch' } };
    scene.declareImage('golden', { size: undefined, sealed: true, source });
    await scene.reconcileImage('golden');
    expect(await readyOf('golden')).toMatchObject({ status: 'True', reason: 'Made' });
    scene.deleteImage('scratch');
    await scene.reconcileImage('scratch');
    expect(filesIn('disks')).toEqual([]);
    scene.declareImage('heir', { source: { type: 'diskImage', diskImage: { name: 'golden' } } });
    await scene.reconcileImage('heir');
    expect(await readyOf('heir')).toMatchObject({ status: 'True' });
  });

  it('that is to be bigger than that says so once and for all, and nothing is kept for it', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    const source = { type: 'diskImage', diskImage: { name: 'scratch' } };
    scene.declareImage('golden', { size: '128Mi', sealed: true, source });
    await scene.reconcileImage('golden');
    const { status, reason, message } = await readyOf('golden');
    expect([status, reason]).toEqual(['False', 'SizeOutOfRange']);
    expect(message).toBe(
      'the content has 64Mi, and a sealed DiskImage of 128Mi was asked for: declare it without size, and give that to the disks that start from it',
    );
    expect([filesIn('images'), filesIn('snapshots')]).toEqual([[], []]);
    const events = scene.events.length;
    scene.takeWrites();
    expect(await scene.reconcileImage('golden')).toBe('done');
    expect([scene.takeWrites(), scene.events.length]).toEqual([0, events]);
    scene.deleteImage('golden');
    await scene.reconcileImage('golden');
    expect(await scene.image('golden')).toBeUndefined();
  });

  it('goes with its object, and disks that started from it stay', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    scene.declareImage('golden', {
      size: undefined,
      sealed: true,
      source: { type: 'diskImage', diskImage: { name: 'scratch' } },
    });
    await scene.reconcileImage('golden');
    scene.declareImage('heir', { source: { type: 'diskImage', diskImage: { name: 'golden' } } });
    await scene.reconcileImage('heir');
    scene.deleteImage('golden');
    await scene.reconcileImage('golden');
    expect(filesIn('images')).toEqual([]);
    await scene.reconcileImage('heir');
    expect(await readyOf('heir')).toMatchObject({ status: 'True' });
  });

  it('is listed where it has no object any more', async () => {
    scene.declareImage('golden', http(server.put('/golden.qcow2', makeImage(directory, 'qcow2'))));
    await settled('golden');
    scene.images.remove('media/golden');
    const pool = scene.detached.pool;
    const digest = `sha256:${createHash('sha256')
      .update(readFileSync(pool.layout.layerData([...pool.layers.keys()][0]!, 'qcow2')))
      .digest('hex')}`;
    expect(findOrphans(pool, scene.context, undefined).listed).toMatchObject([
      { kind: 'image', name: 'media/golden', size: '16Mi', digest },
    ]);
  });
});
