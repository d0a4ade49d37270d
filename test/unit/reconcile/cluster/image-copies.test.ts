import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages, diskPools } from '../../../../src/api/objects.ts';
import { nodeType } from '../../../../src/kube/kinds/core-kinds.ts';
import type { Json } from '../../../fakes/api-patch.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, until } from '../../../fakes/cluster-scene.ts';

const namespace = 'media';
let scene: ClusterScene;
let nodes: Record<string, FakeClusterNode>;

beforeEach(async () => {
  scene = await ClusterScene.start();
  nodes = Object.fromEntries(['a', 'b', 'c'].map((name) => [name, scene.addNode({ name })]));
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

interface Seen {
  metadata: { name: string; uid: string; ownerReferences?: { name: string; uid: string; controller: boolean }[] };
  spec: { nodeName?: string; source: Json; sealed: boolean };
  status?: {
    conditions: { type: string; status: string; reason: string; message: string }[];
    copies?: { nodeName: string; ready: boolean; message?: string; allocated?: string }[];
  };
}

const images = () => scene.server.objects.list(diskImages, namespace) as unknown as Seen[];
const seen = (name = 'debian') => images().find(({ metadata }) => metadata.name === name);
const copies = () => images().filter(({ metadata }) => metadata.name !== 'debian');
const copyNodes = () =>
  copies()
    .flatMap(({ spec }) => spec.nodeName ?? [])
    .sort();
const copied = () => seen()?.status?.conditions.find(({ type }) => type === 'Copied');
const told = () => seen()?.status?.copies ?? [];
const isAllCopied = () => copied()?.reason === 'AllCopied';
const declare = (spec: Json, name = 'debian') =>
  scene.create(
    diskImages,
    { name, namespace },
    { nodeName: 'a', sealed: true, source: { type: 'http', http: { url: 'https://example.org/debian' } }, ...spec },
  );
const change = (spec: Json, name = 'debian') => scene.patch(diskImages, name, { spec }, { namespace });
const label = (name: string, labels: Json) => scene.patch(nodeType, name, { metadata: { labels } });
/** The nodes that a copy is asked for on, which it does nothing about. */
const ignoring = (...names: string[]) => {
  for (const name of names) (nodes[name] as FakeClusterNode).reply = () => 'nothing';
};

describe('a sealed DiskImage that names nodes', () => {
  it('gets a DiskImage on each of them that belongs to it and starts from it, and says how they are', async () => {
    declare({ nodes: ['c', 'b', 'a'] });
    await scene.elect();
    await until(isAllCopied);
    expect(copyNodes()).toEqual(['b', 'c']);
    for (const { metadata, spec } of copies()) {
      expect(metadata.name).toMatch(/^debian-copy-[0-9a-f]{10}$/);
      expect(metadata.ownerReferences).toMatchObject([{ name: 'debian', uid: seen()?.metadata.uid, controller: true }]);
      expect(spec).toMatchObject({ sealed: true, source: { type: 'diskImage', diskImage: { name: 'debian' } } });
    }
    expect(copied()).toMatchObject({ status: 'True', message: 'All 2 nodes have their copy.' });
    expect(told()).toEqual([
      { nodeName: 'b', ready: true },
      { nodeName: 'c', ready: true },
    ]);
    await until(() => scene.eventsOf('debian').some((event) => event.startsWith('Normal AllCopied')));
  });

  it('is left alone when all is as it is wanted', async () => {
    declare({ nodes: ['b'], nodeSelector: { disk: 'fast' } });
    label('c', { disk: 'fast' });
    await scene.elect();
    await until(isAllCopied);
    await scene.settle();
    const before = scene.writes.length;
    await scene.pass(600_000);
    label('b', { other: 'label' });
    await scene.settle();
    expect(scene.writes.slice(before).map(({ path }) => path)).toEqual([]);
  });

  it('has them made when it is ready, and not before', async () => {
    ignoring('a');
    declare({ nodes: ['b'] });
    await scene.elect();
    await until(() => copied()?.reason === 'WaitingForImage');
    expect(copies()).toEqual([]);
    expect(told()).toEqual([{ nodeName: 'b', ready: false, message: 'It is made when the image is ready.' }]);
    nodes['a']!.reply = () => 'done';
    nodes['a']!.wake();
    await until(isAllCopied);
  });

  it('loses those that are not asked for any more', async () => {
    declare({ nodes: ['b', 'c'] });
    await scene.elect();
    await until(isAllCopied);
    change({ nodes: ['c'] });
    await until(() => copyNodes().join() === 'c' && told().length === 1);
    change({ nodes: null });
    await until(() => copies().length === 0 && copied() === undefined);
    expect(seen()?.status?.copies).toBeUndefined();
  });

  it('says which node is not there, and which has no such pool, and copies to the others', async () => {
    declare({ nodes: ['b', 'nowhere', 'other'] });
    scene.addNode({ name: 'other', pool: 'other' });
    await scene.elect();
    await until(() => copied()?.reason === 'NodeNotFound' && told()[0]?.ready === true);
    expect(copied()?.message).toMatch(/^1 of 3 nodes have a copy\. nowhere: There is no node nowhere/);
    expect(told()[2]?.message).toContain('Node other has no pool default');
    expect(copyNodes()).toEqual(['b']);
    scene.addNode({ name: 'nowhere' });
    await until(() => copied()?.reason === 'PoolNotFound' && copyNodes().join() === 'b,nowhere');
  });

  it('has a copy go with its node, and made again when that is back', async () => {
    declare({ nodes: ['b'] });
    await scene.elect();
    await until(isAllCopied);
    nodes['b']!.vanish();
    await until(() => copied()?.reason === 'NodeNotFound' && copies().length === 0);
    scene.remove(diskPools, 'default.b');
    scene.addNode({ name: 'b' });
    await until(isAllCopied);
  });

  it('tells what its copies fail with', async () => {
    nodes['b']!.reply = () => ({ reason: 'PoolFull', message: 'There is no room.' });
    declare({ nodes: ['b', 'c'] });
    await scene.elect();
    await until(() => copied()?.reason === 'PoolFull' && told()[1]?.ready === true);
    expect(copied()?.message).toBe('1 of 2 nodes have a copy. b: There is no room.');
    await until(() => scene.eventsOf('debian').some((event) => event.startsWith('Warning PoolFull')));
  });

  it('tells of progress in steps, so that it is not written all the time', async () => {
    nodes['b']!.reply = () => ({ reason: 'Fetching', message: '4.7 GiB of 10 GiB', progress: '47%' });
    declare({ nodes: ['b'] });
    await scene.elect();
    await until(() => told()[0]?.message === 'Fetching: 40%.');
    expect(copied()).toMatchObject({ status: 'False', reason: 'Copying' });
    const copy = copies()[0]?.metadata.name ?? '';
    await scene.settle();
    const before = scene.writes.length;
    scene.patch(diskImages, copy, { status: { progress: '49%' } }, { namespace, subresource: 'status' });
    await scene.settle();
    expect(scene.writes.length).toBe(before);
  });

  it('has lost copies made again', async () => {
    declare({ nodes: ['b'] });
    await scene.elect();
    await until(isAllCopied);
    const [lost] = copies();
    const at = '2026-01-01T00:00:00Z';
    const conditions = [
      { type: 'Ready', status: 'False', reason: 'Lost', message: 'It is gone.', lastTransitionTime: at },
    ];
    scene.patch(
      diskImages,
      lost?.metadata.name ?? '',
      { status: { conditions } },
      { namespace, subresource: 'status' },
    );
    await until(() => isAllCopied() && copies()[0]?.metadata.uid !== lost?.metadata.uid);
  });

  it('never takes a DiskImage of somebody else', async () => {
    declare({ nodes: ['b'] });
    const end = await scene.elect();
    await until(isAllCopied);
    const name = copies()[0]?.metadata.name ?? '';
    await end();
    scene.remove(diskImages, name, namespace);
    scene.create(diskImages, { name, namespace }, { size: '1Gi', nodeName: 'b', source: { type: 'blank' } });
    await scene.elect();
    await until(() => copied()?.reason === 'NameTaken');
    change({ nodes: null });
    await until(() => copied() === undefined);
    expect(seen(name)).toBeDefined();
  });

  it('is not served by copies of copies', async () => {
    declare({ nodes: ['b'] });
    await scene.elect();
    await until(isAllCopied);
    const name = copies()[0]?.metadata.name ?? '';
    change({ nodes: ['c'] }, name);
    await until(() => seen(name)?.status?.conditions.some(({ reason }) => reason === 'IsCopy') ?? false);
    expect(copyNodes()).toEqual(['b']);
  });

  it('takes its copies along when it is deleted', async () => {
    scene.create(
      diskImages,
      { name: 'debian', namespace, finalizers: ['test'] },
      { nodeName: 'a', sealed: true, nodes: ['b'], source: { type: 'http', http: { url: 'https://example.org/x' } } },
    );
    await scene.elect();
    await until(isAllCopied);
    scene.remove(diskImages, 'debian', namespace);
    await until(() => copies().length === 0);
  });

  it('leaves them when whoever deletes it wants them kept', async () => {
    scene.create(
      diskImages,
      { name: 'debian', namespace, finalizers: ['orphan'] },
      { nodeName: 'a', sealed: true, nodes: ['b'], source: { type: 'http', http: { url: 'https://example.org/x' } } },
    );
    await scene.elect();
    await until(isAllCopied);
    scene.remove(diskImages, 'debian', namespace);
    await scene.settle();
    expect(copyNodes()).toEqual(['b']);
  });

  it('serves some nodes after the other, not all at once', async () => {
    const many = Array.from({ length: 12 }, (_, index) => `n${String(index).padStart(2, '0')}`);
    for (const name of many) nodes[name] = scene.addNode({ name });
    ignoring(...many);
    declare({ nodes: many });
    await scene.elect();
    await until(() => copies().length === 8);
    await until(() => told().filter(({ message }) => message === 'Other nodes get theirs first.').length === 4);
    nodes['n00']!.reply = () => 'done';
    nodes['n00']!.wake();
    await until(() => copies().length === 9);
    // One that fails, or whose node does nothing, does not hold up the others.
    nodes['n01']!.reply = () => ({ reason: 'PoolFull', message: 'There is no room.' });
    nodes['n01']!.wake();
    nodes['n02']!.setNodeReady('Unknown');
    await until(() => copies().length === 11);
    await until(() => told()[2]?.message === 'Nothing is done there: the node is not ready.');
  });
});

describe('a sealed DiskImage with a selector of nodes', () => {
  it('follows their labels', async () => {
    label('b', { disk: 'fast', zone: 'x' });
    label('a', { disk: 'fast', zone: 'x' });
    label('c', { disk: 'fast' });
    declare({ nodeSelector: { disk: 'fast', zone: 'x' } });
    await scene.elect();
    await until(isAllCopied);
    expect(copyNodes()).toEqual(['b']);
    label('c', { disk: 'fast', zone: 'x' });
    await until(() => copyNodes().join() === 'b,c' && isAllCopied());
    label('b', { zone: 'y' });
    await until(() => copyNodes().join() === 'c' && told().length === 1);
  });

  it('serves nodes that come later, and passes over those without a pool', async () => {
    declare({ nodeSelector: { disk: 'fast' } });
    await scene.elect();
    await until(isAllCopied);
    expect(copied()?.message).toBe('No other node is to have a copy.');
    scene.server.objects.create(
      { type: nodeType, namespace: '' },
      { metadata: { name: 'control', labels: { disk: 'fast' } } },
    );
    scene.addNode({ name: 'late' });
    label('late', { disk: 'fast' });
    await until(() => told().length === 1 && isAllCopied());
    expect(copyNodes()).toEqual(['late']);
  });

  it('may name nodes as well', async () => {
    label('b', { disk: 'fast' });
    declare({ nodes: ['c', 'b'], nodeSelector: { disk: 'fast' } });
    await scene.elect();
    await until(isAllCopied);
    expect(copyNodes()).toEqual(['b', 'c']);
  });
});

describe('a copy on a node', () => {
  const heir = (nodeName: string) =>
    scene.create(
      diskImages,
      { name: 'heir', namespace },
      { nodeName, sealed: true, source: { type: 'diskImage', diskImage: { name: 'debian' } } },
    );
  const originOf = (name: string) => (seen(name)?.status as { origin?: Json } | undefined)?.origin;

  beforeEach(async () => {
    declare({ nodes: ['b'] });
    await scene.elect();
    await until(isAllCopied);
  });

  it('is what disks there start from', async () => {
    ignoring('b');
    heir('b');
    await until(() => originOf('heir') !== undefined);
    expect(originOf('heir')).toMatchObject({ kind: 'image', id: copies()[0]?.metadata.name, nodeName: 'b' });
  });

  it('serves other nodes where that of the original does not answer', async () => {
    nodes['a']!.setNodeReady('Unknown');
    ignoring('c');
    heir('c');
    await until(() => originOf('heir')?.['nodeName'] === 'b');
  });

  it('takes over where the node of the original stops answering before all has come', async () => {
    ignoring('c');
    nodes['b']!.setNodeReady('Unknown');
    heir('c');
    await until(() => originOf('heir')?.['nodeName'] === 'a');
    nodes['b']!.setNodeReady('True');
    nodes['a']!.setNodeReady('Unknown');
    await scene.pass(15_000);
    await until(() => originOf('heir')?.['nodeName'] === 'b');
  });

  it('serves further copies where the node of the original is gone', async () => {
    nodes['a']!.vanish();
    await until(() => JSON.stringify(seen()?.status?.conditions).includes('NodeGone'));
    change({ nodes: ['b', 'c'] });
    await until(() => told().length === 2 && isAllCopied());
  });
});
