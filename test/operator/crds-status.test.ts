import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { z } from 'zod';
import { annotations, fieldManagers } from '../../src/api/names.ts';
import { type DiskImage, diskImages, diskPools } from '../../src/api/objects.ts';
import { ensureObject, writeStatus } from '../../src/kube/apply.ts';
import { ApiClient } from '../../src/kube/client/client.ts';
import { Reflector } from '../../src/kube/cache/reflector.ts';
import { ResourceClient } from '../../src/kube/client/resource-client.ts';
import { GiB } from '../../src/lib/bytes.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { collections, condition, CrdScene, type KindName, objectSchema, pathOf, refusalOf } from '../crd-scene.ts';
import { MemoryLogger } from '../fakes/memory-logger.ts';
import { findApiServer } from '../kube-api-server.ts';

const found = await findApiServer();
let scene: CrdScene;

beforeAll(async () => {
  if ('missing' in found) return;
  scene = await CrdScene.start(found);
}, 240_000);
afterAll(() => scene?.server.stop());

test('the API server that these tests need is there', (context) => {
  if ('missing' in found) return context.skip(found.missing);
  expect(scene.installed.length).toBeGreaterThan(0);
});

/** Where there is no API server, the test above says so for all of them. */
const suite = 'missing' in found ? () => {} : describe;

suite('the status', () => {
  it('of a DiskImage is reported by controller and node, each its own conditions', async () => {
    const image = await scene.created('DiskImage', 'spec: {size: 10Gi, nodeName: worker-1}');
    const placed = condition('Placed', 'True', 'NodeChosen');
    const ready = condition('Ready', 'True', 'Made');
    expect((await scene.report(image, fieldManagers.controller, { conditions: [placed] })).status).toBe(200);
    const answer = await scene.report(image, fieldManagers.node, {
      virtualSize: '10Gi',
      allocated: '1.38Gi',
      conditions: [ready],
    });
    expect(answer.status).toBe(200);
    const { status, spec } = diskImages.parse(answer.body);
    expect(status.conditions.map(({ type }) => type)).toEqual(['Placed', 'Ready']);
    expect([spec.size, status.virtualSize]).toEqual([10 * GiB, 10 * GiB]);
  });

  it('is not written with the rest', async () => {
    const image = scene.objectOf('DiskImage', 'spec: {size: 1Gi}');
    const { body } = await scene.create({ ...image, status: { virtualSize: '5Gi' } });
    expect(body).not.toHaveProperty('status');
  });

  it.each([
    ['a progress beyond all', { progress: '101%' }, 'status.progress'],
    ['fewer bytes than none', { importedBytes: -1 }, 'status.importedBytes'],
    ['a digest of another kind', { digest: 'md5:0a' }, 'status.digest'],
    ['a size with a unit that is none', { virtualSize: '10GB' }, 'status.virtualSize'],
    ['a condition without a reason', { conditions: [{ ...condition('Ready', 'True', 'Made'), reason: '' }] }, 'reason'],
    ['a condition that is perhaps', { conditions: [condition('Ready', 'Perhaps', 'Made')] }, 'Unsupported value'],
  ])('cannot have %s', async (_, status, where) => {
    const answer = await scene.report(
      await scene.created('DiskImage', 'spec: {size: 1Gi}'),
      fieldManagers.node,
      status,
    );
    expect(refusalOf(answer)).toContain(where);
  });

  it('of a DiskImage has a copy for each node once, of which each node reports its own', async () => {
    const image = await scene.created('DiskImage', 'spec: {size: 1Gi, sealed: true, nodes: [a, b]}');
    const digest = `sha256:${'0a'.repeat(32)}`;
    await scene.report(image, 'node-a', { digest, copies: [{ nodeName: 'a', ready: true, allocated: '1.38Gi' }] });
    await scene.report(image, 'node-b', { copies: [{ nodeName: 'b', ready: false, message: 'There is no room.' }] });
    await scene.report(image, 'node-b', { copies: [{ nodeName: 'b', ready: true, allocated: '1.4Gi' }] });
    const { body } = await scene.server.send('GET', pathOf(image));
    expect(diskImages.parse(body).status).toMatchObject({
      digest,
      copies: [
        { nodeName: 'a', ready: true },
        { nodeName: 'b', ready: true },
      ],
    });
    const twice = {
      copies: [
        { nodeName: 'a', ready: true },
        { nodeName: 'a', ready: false },
      ],
    };
    const merged = await scene.server.send('PATCH', `${pathOf(image)}/status`, {
      body: { status: twice },
      contentType: 'application/merge-patch+json',
    });
    expect(refusalOf(merged)).toContain('Duplicate value');
  });

  it('of a DiskPool lists orphans, each once', async () => {
    const yaml = 'metadata: {name: default.worker-9}\nspec: {poolName: default, nodeName: worker-9}';
    const pool = await scene.created('DiskPool', yaml);
    const at = '2026-01-02T03:04:05Z';
    const orphan = { kind: 'disk', id: 'pvc-1', name: 'pvc-1', size: '1Gi', createdAt: at, foundAt: at };
    const answer = await scene.report(pool, fieldManagers.node, {
      transferAddress: '10.244.1.7:9443',
      orphans: [orphan, { ...orphan, kind: 'snapshot' }, { ...orphan, kind: 'image' }],
    });
    expect(answer.status).toBe(200);
    expect(diskPools.parse(answer.body).status.orphans).toHaveLength(3);
  });
});

suite('a role', () => {
  let client: ApiClient;
  let images: ResourceClient<DiskImage>;
  const stop = new AbortController();

  beforeAll(() => {
    client = new ApiClient({ connection: scene.server.connection, clock: systemClock, userAgent: 'lamina/test' });
    images = new ResourceClient(client, diskImages);
  });
  afterAll(() => {
    stop.abort();
    client.close();
  });

  it('writes nothing where an object is as it is wanted, in whatever words', async () => {
    const metadata = { name: 'wanted', namespace: 'default' };
    const source = { type: 'http', http: { url: 'http://x/y' } };
    const options = { fieldManager: fieldManagers.controller };
    const made = await ensureObject(images, undefined, { metadata, spec: { size: '1024Mi', source } }, options);
    const same = { size: '1Gi', pool: 'default', sealed: true, source };
    expect(await ensureObject(images, made, { metadata, spec: same }, options)).toBe(made);
    const status = {
      virtualSize: '1Gi',
      importedBytes: 7,
      conditions: [condition('Ready', 'True', 'Made')],
      copies: [{ nodeName: 'b', ready: true, allocated: '1.38Gi' }],
    };
    const written = await writeStatus(images, made, status);
    expect(written.status).toMatchObject({ virtualSize: GiB, importedBytes: 7 });
    expect(await writeStatus(images, written, { ...status, virtualSize: '1024Mi', progress: null })).toBe(written);
    const emptied = await writeStatus(images, written, { copies: null, importedBytes: null });
    expect(emptied.status).toMatchObject({ virtualSize: GiB, copies: [] });
    expect(await writeStatus(images, emptied, { copies: [] })).toBe(emptied);
  });

  it('of a node gets to know a disk when it is placed there', async () => {
    const fieldSelector = 'spec.nodeName=worker-66';
    const logger = new MemoryLogger();
    const common = { client, clock: systemClock, random: Math.random, logger };
    const reflector = new Reflector({ ...common, type: diskImages, fieldSelector });
    const running = reflector.run(stop.signal);
    await reflector.whenSynced(stop.signal);
    const image = await scene.created('DiskImage', 'spec: {size: 1Gi}');
    await scene.created('DiskImage', 'spec: {size: 1Gi, nodeName: worker-67}');
    await scene.patch(image, 'spec: {nodeName: worker-66}');
    const isKnown = () => reflector.cache.has(`default/${image.metadata.name}`);
    expect(await pollUntil(isKnown, { timeoutMs: 30_000, intervalMs: 20 })).toBe(true);
    expect(reflector.cache.size).toBe(1);
    stop.abort();
    await running;
  });
});

suite('kubectl get', () => {
  const age: unknown = expect.stringMatching(/^\d+s$/);

  it('reads like a status page', async () => {
    const image = await scene.created(
      'DiskImage',
      `{metadata: {annotations: {${annotations.claim}: shop/data}}, spec: {size: 20Gi, nodeName: worker-1}}`,
    );
    const full = 'there is no room for 20 GiB: delete disks, or add space';
    await scene.report(image, fieldManagers.node, {
      virtualSize: '10Gi',
      allocated: '1.38Gi',
      format: 'qcow2',
      progress: '40%',
      chainDepth: 3,
      attached: true,
      conditions: [condition('Ready', 'False', 'PoolFull', full), condition('Healthy', 'True', 'NothingFound')],
    });
    const narrow = {
      Name: image.metadata.name,
      Ready: 'False',
      Status: 'PoolFull',
      Size: '10Gi',
      Format: 'qcow2',
      Node: 'worker-1',
      Progress: '40%',
      Allocated: '1.38Gi',
      Age: age,
    };
    expect(await scene.rowOf(image, { wide: false })).toEqual(narrow);
    expect(await scene.rowOf(image, { wide: true })).toEqual({
      ...narrow,
      Healthy: 'True',
      Attached: true,
      Pool: 'default',
      Source: 'blank',
      Imported: null,
      Copied: null,
      Depth: 3,
      Claim: 'shop/data',
      Message: full,
    });
  });

  it('shows how far an import is, and that copies are not there', async () => {
    const image = await scene.created(
      'DiskImage',
      'spec: {nodeName: worker-1, nodes: [b], source: {type: http, http: {url: "http://x/y"}}}',
    );
    await scene.report(image, fieldManagers.node, {
      progress: '7%',
      importedBytes: 73_400_320,
      conditions: [condition('Ready', 'False', 'Importing'), condition('Copied', 'False', 'WaitingForImage')],
    });
    expect(await scene.rowOf(image, { wide: true })).toMatchObject({
      Ready: 'False',
      Status: 'Importing',
      Size: null,
      Progress: '7%',
      Source: 'http',
      Imported: 73_400_320,
      Copied: 'False',
    });
  });

  it('shows a snapshot, and a pool', async () => {
    const snapshot = await scene.created('DiskSnapshot', 'spec: {diskImageName: scratch, nodeName: worker-1}');
    const ready = condition('Ready', 'True', 'Taken');
    await scene.report(snapshot, fieldManagers.node, { restoreSize: '10Gi', conditions: [ready] });
    expect(await scene.rowOf(snapshot, { wide: false })).toEqual({
      Name: snapshot.metadata.name,
      Ready: 'True',
      Status: 'Taken',
      Disk: 'scratch',
      Size: '10Gi',
      Node: 'worker-1',
      Age: age,
    });
    const yaml = 'metadata: {name: fast.worker-8}\nspec: {poolName: fast, nodeName: worker-8}';
    const pool = await scene.created('DiskPool', yaml);
    await scene.report(pool, fieldManagers.node, { disks: 3, conditions: [condition('Ready', 'True', 'Serving')] });
    expect(await scene.rowOf(pool, { wide: false })).toEqual({
      Name: 'fast.worker-8',
      Node: 'worker-8',
      Pool: 'fast',
      Ready: 'True',
      Status: 'Serving',
      Total: null,
      Free: null,
      Provisioned: null,
      Disks: 3,
      Age: age,
    });
  });

  it('selects by node, and a snapshot by its disk', async () => {
    const image = await scene.created('DiskImage', 'spec: {size: 1Gi, nodeName: worker-77}');
    const snapshot = await scene.created('DiskSnapshot', 'spec: {diskImageName: disk-77, nodeName: worker-77}');
    const namesBy = async (kind: KindName, selector: string) => {
      const { body } = await scene.server.send(
        'GET',
        `${collections[kind]}?fieldSelector=${encodeURIComponent(selector)}`,
      );
      return z
        .object({ items: z.array(objectSchema) })
        .parse(body)
        .items.map(({ metadata }) => metadata.name);
    };
    expect(await namesBy('DiskImage', 'spec.nodeName=worker-77')).toEqual([image.metadata.name]);
    expect(await namesBy('DiskSnapshot', 'spec.nodeName=worker-77')).toEqual([snapshot.metadata.name]);
    expect(await namesBy('DiskSnapshot', 'spec.diskImageName=disk-77')).toEqual([snapshot.metadata.name]);
    expect(await namesBy('DiskImage', 'spec.nodeName=worker-78')).toEqual([]);
  });
});
