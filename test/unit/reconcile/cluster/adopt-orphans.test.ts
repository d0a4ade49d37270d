import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { identityOf } from '../../../../src/api/identity.ts';
import { diskImages, diskPools, diskSnapshots } from '../../../../src/api/objects.ts';
import { namespaceType } from '../../../../src/kube/kinds/core-kinds.ts';
import { derivedId } from '../../../../src/lib/derived-id.ts';
import type { FakeType } from '../../../fakes/api-objects.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, systemNamespace, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a' });
  for (const name of [systemNamespace, 'media']) scene.create(namespaceType, { name }, {});
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const at = '2026-01-01T00:00:00Z';
const diskOrphan = (name: string, more: object = {}) => ({
  kind: 'disk',
  id: derivedId(name),
  name,
  size: '5Gi',
  createdAt: at,
  foundAt: at,
  format: 'qcow2',
  preallocation: 'off',
  liveSnapshots: false,
  ...more,
});
const snapshotOrphan = (name: string, disk: string) => ({
  kind: 'snapshot',
  id: derivedId(name),
  name,
  size: '5Gi',
  createdAt: at,
  foundAt: at,
  disk: derivedId(disk),
});
const list = (...orphans: object[]) => a.reportPool({ orphans, orphanCount: orphans.length });
const posts = () => scene.writes.filter(({ method }) => method === 'POST');
const eventsOf = (reason: string) => scene.eventsOf('default.a').filter((event) => event.includes(` ${reason}: `));

async function untilThere(type: FakeType, name: string, namespace: string) {
  await until(() => scene.find(type, name, namespace) !== undefined);
  return scene.find(type, name, namespace);
}

describe('a disk without an object', () => {
  it('that CSI asked for is declared again as it was', async () => {
    const more = { preallocation: 'metadata', clusterSize: '64Ki', liveSnapshots: true };
    list(diskOrphan('pvc-1', more), diskOrphan('Daten-Träger', { format: 'raw', preallocation: 'falloc' }));
    await scene.elect();
    expect(await untilThere(diskImages, 'pvc-1', systemNamespace)).toMatchObject({
      metadata: {
        finalizers: ['lamina.storage/disk'],
        annotations: { 'lamina.storage/csi-name': 'pvc-1', 'lamina.storage/adopted': '2026-01-01T00:00:00Z' },
      },
      spec: {
        size: '5Gi',
        format: 'qcow2',
        preallocation: 'metadata',
        clusterSize: '64Ki',
        liveSnapshots: true,
        pool: 'default',
        nodeName: 'a',
        source: { type: 'blank' },
      },
    });
    expect(await untilThere(diskImages, derivedId('Daten-Träger'), systemNamespace)).toMatchObject({
      metadata: { annotations: { 'lamina.storage/csi-name': 'Daten-Träger' } },
      spec: { format: 'raw', preallocation: 'falloc' },
    });
    await until(() => eventsOf('Adopted').length === 1);
    expect(eventsOf('Adopted')[0]).toContain('DiskImage lamina-system/pvc-1, DiskImage lamina-system/sha256-');
    const disks = await scene.service();
    expect((await disks.listDisks()).map(({ id }) => id)).toContain('pvc-1');
  });

  it('that a user declared is declared in its namespace, under the id that the pool knows', async () => {
    list(diskOrphan('media/debian'));
    await scene.elect();
    const object = await untilThere(diskImages, 'debian', 'media');
    expect(object?.metadata['annotations']).toEqual({ 'lamina.storage/adopted': at });
    expect(identityOf(object as never, systemNamespace).id).toBe(derivedId('media/debian'));
  });

  it('names its source as far as that can be named', async () => {
    list(
      diskOrphan('pvc-2', { source: 'pvc-gone', sourceKind: 'disk' }),
      diskOrphan('pvc-3', { source: derivedId('media/debian'), sourceKind: 'disk' }),
      diskOrphan('pvc-4', { source: 'snapshot-1', sourceKind: 'snapshot' }),
      diskOrphan('media/copy', { source: derivedId('media/debian'), sourceKind: 'disk' }),
      diskOrphan('media/other', { source: derivedId('media/lost'), sourceKind: 'disk' }),
      diskOrphan('media/of-volume', { source: 'pvc-2', sourceKind: 'disk' }),
      diskOrphan('media/debian'),
    );
    await scene.elect();
    await until(() => scene.server.objects.list(diskImages).length === 7);
    const sourceOf = (name: string, namespace: string) =>
      (scene.find(diskImages, name, namespace)?.['spec'] as { source: unknown } | undefined)?.source;
    expect(sourceOf('pvc-2', systemNamespace)).toEqual({ type: 'diskImage', diskImage: { name: 'pvc-gone' } });
    expect(sourceOf('pvc-3', systemNamespace)).toEqual({
      type: 'diskImage',
      diskImage: { namespace: 'media', name: 'debian' },
    });
    expect(sourceOf('pvc-4', systemNamespace)).toEqual({ type: 'diskSnapshot', diskSnapshot: { name: 'snapshot-1' } });
    expect(sourceOf('copy', 'media')).toEqual({ type: 'diskImage', diskImage: { name: 'debian' } });
    expect(sourceOf('other', 'media')).toEqual({ type: 'blank' });
    expect(sourceOf('of-volume', 'media')).toEqual({ type: 'blank' });
  });
});

describe('a snapshot without an object', () => {
  it('is declared after its disk, or where the disk is gone by the name that it had', async () => {
    list(
      snapshotOrphan('snapshot-1', 'pvc-1'),
      snapshotOrphan('snapshot-2', 'pvc-gone'),
      snapshotOrphan('media/before', 'media/debian'),
      diskOrphan('pvc-1'),
      diskOrphan('media/debian'),
    );
    await scene.elect();
    expect(await untilThere(diskSnapshots, 'snapshot-1', systemNamespace)).toMatchObject({
      metadata: {
        finalizers: ['lamina.storage/snapshot'],
        annotations: { 'lamina.storage/csi-name': 'snapshot-1', 'lamina.storage/adopted': at },
      },
      spec: { diskImageName: 'pvc-1', nodeName: 'a' },
    });
    expect(await untilThere(diskSnapshots, 'snapshot-2', systemNamespace)).toMatchObject({
      spec: { diskImageName: 'pvc-gone' },
    });
    expect(await untilThere(diskSnapshots, 'before', 'media')).toMatchObject({ spec: { diskImageName: 'debian' } });
    const kinds = posts()
      .filter(({ path }) => path.includes('/disk'))
      .map(({ path }) => path.split('/').at(-1));
    expect(kinds).toEqual(['diskimages', 'diskimages', 'disksnapshots', 'disksnapshots', 'disksnapshots']);
  });

  it('of a disk whose name nobody knows any more stays listed', async () => {
    list(snapshotOrphan('media/before', 'media/gone'));
    await scene.elect();
    await until(() => eventsOf('OrphansKept').length === 1);
    expect(eventsOf('OrphansKept')[0]).toContain('it is not known how the DiskImage of its disk sha256-');
    expect(posts().filter(({ path }) => path.includes('/disk'))).toEqual([]);
  });
});

describe('the content of a sealed DiskImage without an object', () => {
  it('is declared again, with nothing that could be made in its place', async () => {
    list({ ...snapshotOrphan('media/debian', ''), kind: 'image', format: 'raw', digest: `sha256:${'0'.repeat(64)}` });
    await scene.elect();
    expect(await untilThere(diskImages, 'debian', 'media')).toMatchObject({
      metadata: { annotations: { 'lamina.storage/adopted': expect.any(String) } },
      spec: { size: '5Gi', format: 'raw', nodeName: 'a', sealed: true, source: { type: 'blank' } },
    });
  });
});

describe('what cannot be declared', () => {
  it('stays listed, is told once, and keeps no other from being declared', async () => {
    scene.create(diskImages, { name: 'pvc-2', namespace: systemNamespace }, { size: '1Gi', nodeName: 'b' });
    list(diskOrphan('gone/disk'), diskOrphan('pvc-2'), { ...diskOrphan('pvc-3'), id: 'pvc-4' }, diskOrphan('pvc-1'));
    await scene.elect();
    await untilThere(diskImages, 'pvc-1', systemNamespace);
    await until(() => eventsOf('OrphansKept').length === 1);
    expect(eventsOf('OrphansKept')[0]).toBe(
      'Warning OrphansKept: Kept in the pool, but without an object (status.orphans lists them): disk gone/disk: there is no namespace gone; disk pvc-2: there is a DiskImage lamina-system/pvc-2, which is on node b; ' +
        "disk pvc-3: its name 'pvc-3' does not belong to its id.",
    );
    expect(scene.find(diskImages, 'pvc-2')).toMatchObject({ spec: { nodeName: 'b' } });
    await scene.settle();
    const before = scene.writes.length;
    await scene.pass(700_000);
    a.reportPool({ disks: 3 });
    await scene.settle();
    expect(scene.writes).toHaveLength(before);
    expect(eventsOf('OrphansKept')).toHaveLength(1);
  });

  it('is declared when its namespace comes', async () => {
    list(diskOrphan('later/disk'));
    await scene.elect();
    await until(() => eventsOf('OrphansKept').length === 1);
    scene.create(namespaceType, { name: 'later' }, {});
    await untilThere(diskImages, 'disk', 'later');
  });

  it('is not forced upon the API server that refuses it', async () => {
    const isFirst = ({ method, body }: { method: string; body: unknown }) =>
      method === 'POST' && JSON.stringify(body).includes('"pvc-1"') && !JSON.stringify(body).includes('regarding');
    scene.server.inject({ fault: { kind: 'status', status: 422, reason: 'Invalid' }, match: isFirst });
    list(diskOrphan('pvc-1'), diskOrphan('pvc-2'));
    await scene.elect();
    await untilThere(diskImages, 'pvc-2', systemNamespace);
    await until(() => eventsOf('OrphansKept').length === 1);
    await until(() => scene.clock.pending.includes(300_000));
    await scene.pass(300_000);
    await untilThere(diskImages, 'pvc-1', systemNamespace);
  });
});

describe('adoption', () => {
  it('declares each once, through faults, restarts, and lists that are old', async () => {
    const orphans = Array.from({ length: 20 }, (_, i) => diskOrphan(`pvc-${i}`));
    const isPost = ({ method, path }: { method: string; path: string }) =>
      method === 'POST' && path.endsWith('/diskimages');
    for (const fault of [{ kind: 'drop' }, { kind: 'drop-after' }, { kind: 'status', status: 500 }] as const)
      scene.server.inject({ fault, match: isPost, times: 2 });
    list(...orphans);
    await scene.elect();
    await scene.elect();
    await until(() => {
      const next = scene.clock.pending.find((ms) => ms < 10_000);
      if (next !== undefined) scene.clock.advance(next);
      return scene.server.objects.list(diskImages).length === 20;
    });
    await scene.settle();
    // The list is as it was; one of them was deleted meanwhile, disk and all.
    scene.remove(diskImages, 'pvc-7');
    await until(() => scene.find(diskImages, 'pvc-7') === undefined);
    a.reportPool({ disks: 19 });
    await scene.settle();
    expect(scene.find(diskImages, 'pvc-7')).toBeUndefined();
  });

  it('asks for the newest list before it declares anything', async () => {
    const caches = scene.caches();
    await scene.elect(caches);
    await scene.settle();
    const isOfPool = ({ method, path }: { method: string; path: string }) =>
      method === 'GET' && path.endsWith('/default.a');
    const gate = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise }, match: isOfPool });
    list(diskOrphan('pvc-1'));
    await until(() => scene.server.requests.some(isOfPool));
    list();
    gate.resolve();
    await scene.settle();
    expect(posts().filter(({ path }) => path.endsWith('/diskimages'))).toEqual([]);
  });

  it('does nothing for a pool that is not served', async () => {
    const stopped = { type: 'Ready', status: 'False', reason: 'Stopped', message: 'x', lastTransitionTime: at };
    a.reportPool({ conditions: [stopped] });
    list(diskOrphan('pvc-1'));
    await scene.elect();
    await scene.settle();
    expect(scene.writes).toEqual([]);
    expect(scene.find(diskPools, 'default.a')).toBeDefined();
    a.reportPool({ conditions: [{ ...stopped, status: 'True', reason: 'Serving' }] });
    await untilThere(diskImages, 'pvc-1', systemNamespace);
  });
});
