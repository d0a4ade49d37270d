import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages, diskSnapshots } from '../../../../src/api/objects.ts';
import { nodeType, persistentVolumeType, volumeSnapshotContentType } from '../../../../src/kube/kinds/core-kinds.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, systemNamespace, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;
let b: FakeClusterNode;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a', thin: '100Gi', thick: '20Gi' });
  b = scene.addNode({ name: 'b', thin: '60Gi', thick: '60Gi' });
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const declare = (name: string, spec: object = {}) =>
  scene.create(diskImages, { name, namespace: 'media' }, { size: '10Gi', source: { type: 'blank' }, ...spec });
const from = (kind: 'diskImage' | 'diskSnapshot', name: string) => ({ source: { type: kind, [kind]: { name } } });

interface Seen {
  spec: { nodeName?: string };
  status?: { conditions: { type: string; status: string; reason: string; message: string }[] };
}
const seen = (name: string) => scene.find(diskImages, name, 'media') as unknown as Seen | undefined;
const nodeOf = (name: string) => seen(name)?.spec.nodeName;
const conditionOf = (name: string, type: string) => seen(name)?.status?.conditions.find((one) => one.type === type);
const placedOf = (name: string) => conditionOf(name, 'Placed')?.reason;

describe('a DiskImage that was declared without a node', () => {
  it('gets the one with most room of the kind that it takes, and says so', async () => {
    declare('thin');
    declare('thick', { format: 'raw', preallocation: 'full' });
    await scene.elect();
    await until(() => nodeOf('thin') === 'a' && nodeOf('thick') === 'b');
    await until(() => conditionOf('thin', 'Ready')?.status === 'True');
    expect(conditionOf('thin', 'Placed')).toMatchObject({
      status: 'True',
      reason: 'NodeChosen',
      message: 'Node a has room for it in its pool default.',
    });
    await until(() => scene.eventsOf('thin').length === 1);
    expect(scene.eventsOf('thin')[0]).toMatch(/^Normal Placed: Node a has room/);
  });

  it('leaves those alone that have a node, or are being deleted', async () => {
    declare('given', { nodeName: 'b' });
    scene.create(diskImages, { name: 'leaving', namespace: 'media', finalizers: ['x'] }, { size: '1Gi' });
    scene.remove(diskImages, 'leaving', 'media');
    await scene.elect();
    await scene.settle();
    expect([nodeOf('given'), nodeOf('leaving'), placedOf('given')]).toEqual(['b', undefined, undefined]);
    expect(scene.writes).toEqual([]);
  });

  it('says of one whose node has no node plugin that nobody makes it, until there is one', async () => {
    scene.server.objects.create({ type: nodeType, namespace: '' }, { metadata: { name: 'control-plane' } });
    declare('given', { nodeName: 'control-plane' });
    await scene.elect();
    await until(() => placedOf('given') === 'PoolNotFound');
    expect(conditionOf('given', 'Ready')).toMatchObject({ status: 'False', reason: 'WaitingForNode' });
    expect(conditionOf('given', 'Ready')?.message).toMatch(/^Node control-plane has no pools, .* or without one, or/);
    await scene.settle();
    const before = scene.writes.length;
    scene.patch(diskImages, 'given', { metadata: { labels: { touched: 'yes' } } }, { namespace: 'media' });
    await scene.settle();
    expect(scene.writes).toHaveLength(before);
  });

  it('counts what it has placed just now, so that many are spread over the room there is', async () => {
    for (const node of [a, b]) node.reply = () => 'nothing';
    for (let i = 0; i < 16; i++) declare(`d${i}`);
    await scene.elect();
    await until(() => Array.from({ length: 16 }, (_, i) => placedOf(`d${i}`)).every(Boolean));
    await scene.settle();
    const nodes = Array.from({ length: 16 }, (_, i) => nodeOf(`d${i}`));
    expect(['a', 'b'].map((name) => nodes.filter((node) => node === name).length)).toEqual([10, 6]);
  });

  it('waits for room, and goes where some is as soon as it is', async () => {
    declare('big', { size: '200Gi' });
    await scene.elect();
    await until(() => placedOf('big') === 'NoRoom');
    expect(conditionOf('big', 'Placed')?.message).toContain(
      'a: there is room for 100 GiB; b: there is room for 60 GiB',
    );
    expect(conditionOf('big', 'Ready')).toMatchObject({ status: 'False', reason: 'WaitingForNode' });
    await until(() => scene.eventsOf('big').length === 1);
    b.setSpace('300Gi', '1Gi');
    await until(() => nodeOf('big') === 'b');
    expect(scene.eventsOf('big').filter((event) => event.startsWith('Warning NoRoom'))).toHaveLength(1);
  });

  it('waits for a pool, and for a node that is ready', async () => {
    declare('fast', { pool: 'fast' });
    await scene.elect();
    await until(() => placedOf('fast') === 'PoolNotFound');
    const c = scene.addNode({ name: 'c', pool: 'fast', thin: '1Gi' });
    await until(() => placedOf('fast') === 'NoRoom');
    c.setNodeReady('Unknown');
    await until(() => placedOf('fast') === 'PoolNotFound');
    c.setSpace('20Gi', '20Gi');
    c.setNodeReady('True');
    await until(() => nodeOf('fast') === 'c');
  });
});

describe('a DiskImage with a source', () => {
  it('is placed where that is, as soon as that is known', async () => {
    declare('copy', from('diskImage', 'origin'));
    declare('restored', from('diskSnapshot', 'snap'));
    await scene.elect();
    await until(() => placedOf('copy') === 'WaitingForSource' && placedOf('restored') === 'WaitingForSource');
    expect(conditionOf('copy', 'Placed')?.message).toBe('The source: there is no DiskImage media/origin.');
    declare('origin', { nodeName: 'b' });
    await until(() => nodeOf('copy') === 'b');
    expect(placedOf('copy')).toBe('SourceNode');
    scene.create(diskSnapshots, { name: 'snap', namespace: 'elsewhere' }, { diskImageName: 'x', nodeName: 'a' });
    scene.create(diskSnapshots, { name: 'snap', namespace: 'media' }, { diskImageName: 'origin', nodeName: 'b' });
    await until(() => nodeOf('restored') === 'b');
  });

  it('that is a volume or a snapshot of Kubernetes is placed where the driver has that', async () => {
    const volume = { namespace: systemNamespace, annotations: { 'lamina.storage/csi-name': 'x' } };
    scene.create(diskImages, { name: 'pvc-1', ...volume }, { size: '1Gi', nodeName: 'b' });
    scene.create(diskSnapshots, { name: 'snapshot-1', ...volume }, { diskImageName: 'pvc-1', nodeName: 'b' });
    declare('of-claim', { source: { type: 'persistentVolumeClaim', persistentVolumeClaim: { name: 'data' } } });
    declare('of-snapshot', { source: { type: 'volumeSnapshot', volumeSnapshot: { name: 'snap' } } });
    await scene.elect();
    await until(() => placedOf('of-claim') === 'WaitingForSource' && placedOf('of-snapshot') === 'WaitingForSource');
    const claimRef = { namespace: 'media', name: 'data' };
    const csi = { driver: 'csi.lamina.storage', volumeHandle: 'pvc-1' };
    scene.create(persistentVolumeType, { name: 'foreign' }, { csi: { ...csi, driver: 'other' }, claimRef });
    scene.create(persistentVolumeType, { name: 'pvc-1' }, { csi, claimRef });
    await until(() => nodeOf('of-claim') === 'b');
    scene.create(
      volumeSnapshotContentType,
      { name: 'content' },
      {
        driver: 'csi.lamina.storage',
        source: { snapshotHandle: 'snapshot-1' },
        volumeSnapshotRef: { namespace: 'media', name: 'snap' },
      },
    );
    await until(() => nodeOf('of-snapshot') === 'b');
  });

  it('in another namespace is refused, but to the system', async () => {
    scene.create(diskImages, { name: 'golden', namespace: 'secret' }, { size: '1Gi', nodeName: 'b' });
    const source = { type: 'diskImage', diskImage: { name: 'golden', namespace: 'secret' } };
    declare('thief', { source });
    scene.create(diskImages, { name: 'populated', namespace: systemNamespace }, { size: '1Gi', source });
    await scene.elect();
    await until(() => placedOf('thief') === 'SourceForbidden');
    await until(() => (scene.find(diskImages, 'populated') as unknown as Seen).spec.nodeName === 'b');
    expect(nodeOf('thief')).toBeUndefined();
  });

  it('from outside is placed like a blank one, and before its size is known', async () => {
    const http = { type: 'http', http: { url: 'https://images.example.org/debian.qcow2' } };
    scene.create(diskImages, { name: 'debian', namespace: 'media' }, { source: http });
    await scene.elect();
    await until(() => nodeOf('debian') === 'a');
  });

  it('is told why it cannot be there', async () => {
    b.reply = () => 'nothing';
    declare('origin', { nodeName: 'b' });
    declare('copy', { ...from('diskImage', 'origin'), size: '70Gi' });
    await scene.elect();
    await until(() => placedOf('copy') === 'NoRoom');
    expect(conditionOf('copy', 'Placed')?.message).toBe('b: there is room for 50 GiB');
  });
});

describe('placing', () => {
  it('gets over conflicts, failures and lost answers', async () => {
    const faults = [
      { kind: 'status', status: 409, reason: 'Conflict' },
      { kind: 'status', status: 500 },
      { kind: 'drop-after' },
      { kind: 'drop' },
    ] as const;
    for (const fault of faults) scene.server.inject({ fault, match: ({ method }) => method === 'PATCH', times: 2 });
    for (let i = 0; i < 6; i++) declare(`d${i}`);
    await scene.elect();
    await until(() => {
      const next = scene.clock.pending.find((ms) => ms < 30_000);
      if (next !== undefined) scene.clock.advance(next);
      return Array.from({ length: 6 }, (_, i) => nodeOf(`d${i}`)).every(Boolean);
    });
    expect(Array.from({ length: 6 }, (_, i) => placedOf(`d${i}`))).toEqual(
      Array.from({ length: 6 }, () => 'NodeChosen'),
    );
  });

  it('writes nothing in a settled cluster, after a restart and a new list neither', async () => {
    declare('small');
    declare('big', { size: '200Gi' });
    declare('copy', from('diskImage', 'nowhere'));
    await scene.elect();
    await until(() => [placedOf('small'), placedOf('big'), placedOf('copy')].every(Boolean));
    await scene.settle();
    const before = scene.writes.length;
    await scene.elect();
    scene.server.expireWatches();
    await scene.settle();
    a.reportPool({ disks: 1 });
    await scene.settle();
    expect(scene.writes).toHaveLength(before);
  });

  it('of two controllers that both take themselves for elected names one node', async () => {
    const caches = [scene.caches(), scene.caches()];
    for (const one of caches) await scene.elect(one);
    for (let i = 0; i < 8; i++) declare(`d${i}`);
    const nodes = new Map<string, string>();
    await until(() => {
      const next = scene.clock.pending.find((ms) => ms < 30_000);
      if (next !== undefined) scene.clock.advance(next);
      for (let i = 0; i < 8; i++) {
        const nodeName = nodeOf(`d${i}`);
        if (nodeName) expect(nodes.get(`d${i}`) ?? nodeName).toBe(nodeName);
        if (nodeName) nodes.set(`d${i}`, nodeName);
      }
      return nodes.size === 8;
    });
  });
});
