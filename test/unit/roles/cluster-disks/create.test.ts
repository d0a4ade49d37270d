import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages, diskPools } from '../../../../src/api/objects.ts';
import type {
  CreateDiskRequest,
  DiskInfo,
  DiskService,
  Placement,
} from '../../../../src/csi/controller/disk-service.ts';
import { nodeType, persistentVolumeClaimType } from '../../../../src/kube/kinds/core-kinds.ts';
import { GiB } from '../../../../src/lib/bytes.ts';
import { ClusterScene, failureOf, until } from '../../../fakes/cluster-scene.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';

let scene: ClusterScene;
let a: FakeClusterNode;
let b: FakeClusterNode;
let disks: DiskService;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a', thin: '100Gi' });
  b = scene.addNode({ name: 'b', thin: '60Gi' });
  disks = await scene.service();
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const anywhere: Placement = {
  nodes: { allowed: null, preferred: [] },
  pool: 'default',
  claim: null,
  transfer: 'images' as const,
};
const on = (...allowed: string[]): Placement => ({ ...anywhere, nodes: { allowed, preferred: allowed } });

const request = (name: string, some: Partial<CreateDiskRequest> = {}): CreateDiskRequest => ({
  name,
  size: { requiredBytes: 5 * GiB, limitBytes: 0 },
  options: { format: 'qcow2', preallocation: 'off', clusterSizeBytes: null, liveSnapshots: false },
  source: null,
  ...some,
});

const create = (name: string, placement = anywhere, some: Partial<CreateDiskRequest> = {}, service = disks) =>
  service.createDisk(request(name, some), placement);

const timeOut = (call: Promise<unknown>, isSo?: () => boolean) => scene.timeOut(call, isSo);
const nodeOf = (name: string) => (scene.find(diskImages, name)?.['spec'] as { nodeName: string } | undefined)?.nodeName;
const writes = () => scene.server.writes.filter(({ path }) => path.includes('diskimages'));

describe('createDisk', () => {
  it('makes a blank volume on the node that the scheduler chose for the pod, or not at all', async () => {
    const { objects } = scene.server;
    const metadata = { name: 'data', annotations: { 'volume.kubernetes.io/selected-node': 'b' } };
    objects.create({ type: persistentVolumeClaimType, namespace: 'shop' }, { metadata });
    await create('pvc-1', { ...anywhere, claim: 'shop/data' });
    expect(nodeOf('pvc-1')).toBe('b');
    b.setNodeReady('Unknown');
    const caches = scene.caches();
    const later = await scene.service(caches);
    const failure = await failureOf(create('pvc-2', { ...anywhere, claim: 'shop/data' }, {}, later));
    expect([failure.code, failure.kind]).toEqual(['topology-unsatisfiable', 'exhausted']);
    await create('pvc-3', { ...anywhere, claim: 'shop/other' }, {}, later);
    expect(nodeOf('pvc-3')).toBe('a');
  });

  it('declares a DiskImage that says all that is wanted, and returns when its node has made it', async () => {
    const options = {
      format: 'qcow2',
      preallocation: 'metadata',
      clusterSizeBytes: 65_536,
      liveSnapshots: true,
    } as const;
    const placement = { ...on('b'), claim: 'shop/data' };
    expect(await create('pvc-1', placement, { options })).toEqual({
      id: 'pvc-1',
      sizeBytes: 5 * GiB,
      source: null,
      unhealthy: null,
      nodeName: 'b',
      attached: false,
    } satisfies DiskInfo);
    expect(scene.find(diskImages, 'pvc-1')).toMatchObject({
      metadata: {
        namespace: 'lamina-system',
        finalizers: ['lamina.storage/disk'],
        annotations: { 'lamina.storage/csi-name': 'pvc-1', 'lamina.storage/claim': 'shop/data' },
      },
      spec: {
        size: '5Gi',
        format: 'qcow2',
        preallocation: 'metadata',
        clusterSize: '64Ki',
        liveSnapshots: true,
        pool: 'default',
        nodeName: 'b',
        source: { type: 'blank' },
      },
    });
    expect(writes()).toHaveLength(1);
  });

  it('is done once: asked again, it writes nothing, and says name-taken where something else is wanted', async () => {
    const first = await create('pvc-1');
    expect(await create('pvc-1')).toEqual(first);
    expect(await create('pvc-1', anywhere, { size: { requiredBytes: GiB, limitBytes: 6 * GiB } })).toEqual(first);
    expect(writes()).toHaveLength(1);
    const { options } = request('x');
    for (const [some, words] of [
      [{ size: { requiredBytes: 6 * GiB, limitBytes: 0 } }, 'it has 5368709120 bytes'],
      [{ size: { requiredBytes: GiB, limitBytes: 2 * GiB } }, 'it has 5368709120 bytes'],
      [{ options: { ...options, format: 'raw' } }, 'its format is qcow2'],
      [{ options: { ...options, clusterSizeBytes: 4096 } }, 'its clusterSize is the default'],
      [{ source: { kind: 'disk', id: 'x' } }, 'its source is {"type":"blank"}'],
    ] satisfies [Partial<CreateDiskRequest>, string][]) {
      const failure = await failureOf(create('pvc-1', anywhere, some));
      expect([failure.code, failure.message]).toEqual(['name-taken', `a volume named pvc-1 exists, but ${words}`]);
    }
    // What can be changed later is no difference.
    await create('pvc-1', anywhere, { options: { ...options, liveSnapshots: true } });
  });

  it('has hashed names for what cannot be an object name, and none for what could be in another namespace', async () => {
    const { id } = await create('Daten-Träger');
    expect(id).toBe(disks.diskIdOf('Daten-Träger'));
    expect(scene.find(diskImages, id)).toMatchObject({
      metadata: { annotations: { 'lamina.storage/csi-name': 'Daten-Träger' } },
    });
    expect((await failureOf(create('media/debian'))).code).toBe('invalid-parameter');
    expect(writes()).toHaveLength(1);
  });

  it('is refused without a write where the pool is not known, or the size is none', async () => {
    const failure = await failureOf(create('pvc-1', { ...anywhere, pool: 'fast' }));
    expect(failure).toMatchObject({ code: 'invalid-parameter' });
    expect(failure.message).toBe("parameters: no node has a pool 'fast'; there are default");
    const size = { requiredBytes: 17 * 1024 * GiB, limitBytes: 0 };
    expect((await failureOf(create('pvc-1', anywhere, { size }))).code).toBe('size-out-of-range');
    expect(writes()).toEqual([]);
  });

  it('does not take an object for its own that somebody has declared under that name', async () => {
    scene.create(diskImages, { name: 'pvc-1', namespace: 'lamina-system' }, { size: '5Gi', nodeName: 'a' });
    expect((await failureOf(create('pvc-1'))).code).toBe('name-taken');
  });

  it('waits for nothing before the caches are complete', async () => {
    scene.server.inject({ fault: { kind: 'hang' }, match: ({ path }) => path.endsWith('/nodes'), times: 9 });
    const caches = scene.caches();
    const early = scene.service(caches);
    await until(() => caches.pools.hasSynced);
    scene.server.heal();
    scene.stop.abort();
    const failure = await failureOf((await early).createDisk(request('pvc-1'), anywhere));
    expect(failure.code).toBe('api-unavailable');
  });
});

describe('the node of a new volume', () => {
  it('is the first preferred one that can have it, and else the one with most room', async () => {
    await create('pvc-1');
    expect(nodeOf('pvc-1')).toBe('a');
    await create('pvc-2', { ...anywhere, nodes: { allowed: ['a', 'b'], preferred: ['b', 'a'] } });
    expect(nodeOf('pvc-2')).toBe('b');
    const size = { requiredBytes: 80 * GiB, limitBytes: 0 };
    await create('pvc-3', { ...anywhere, nodes: { allowed: ['a', 'b'], preferred: ['b', 'a'] } }, { size });
    expect(nodeOf('pvc-3')).toBe('a');
  });

  it('is none where there is no room or no pool, so that the scheduler chooses again', async () => {
    const big = { size: { requiredBytes: 80 * GiB, limitBytes: 0 } };
    const full = await failureOf(create('pvc-1', on('b'), big));
    expect([full.code, full.kind]).toEqual(['pool-full', 'exhausted']);
    expect(full.message).toContain('b: there is room for 60 GiB');
    const thick = { options: { ...request('x').options, format: 'raw', preallocation: 'falloc' } } as const;
    expect((await failureOf(create('pvc-1', on('b'), { ...big, ...thick }))).message).toContain('room for 50 GiB');
    const away = await failureOf(create('pvc-1', on('c')));
    expect([away.code, away.kind]).toEqual(['topology-unsatisfiable', 'exhausted']);
    a.reportPool({ conditions: [{ ...ready(false) }] });
    b.setNodeReady('Unknown');
    const caches = scene.caches();
    const later = await scene.service(caches);
    const unready = await failureOf(create('pvc-1', anywhere, {}, later));
    expect(unready.code).toBe('topology-unsatisfiable');
    expect(unready.message).toContain('a: its pool is not ready (Starting); b: the node is not ready');
    expect(writes()).toEqual([]);
  });

  it('counts what was placed before, whether the node has begun with it or not, and whatever the cache shows', async () => {
    for (const node of [a, b]) node.reply = () => 'nothing';
    const size = { requiredBytes: 20 * GiB, limitBytes: 0 };
    const calls = Array.from({ length: 8 }, (_, i) => create(`pvc-${i}`, anywhere, { size }));
    const results = Promise.allSettled(calls);
    await until(() => writes().length === 8);
    const nodes = Array.from({ length: 8 }, (_, i) => nodeOf(`pvc-${i}`));
    expect([nodes.filter((node) => node === 'a').length, nodes.filter((node) => node === 'b').length]).toEqual([5, 3]);
    expect((await failureOf(create('pvc-9', anywhere, { size }))).code).toBe('pool-full');
    scene.clock.advance(50_000);
    await results;
    // What was made is counted by the pool itself.
    for (const node of [a, b]) node.reply = () => 'done';
    a.wake();
    await create('pvc-0', anywhere, { size });
    await until(
      () => scene.server.objects.list(diskImages).every(({ status }) => status !== undefined) || (b.wake(), false),
    );
    expect(nodeOf((await create('pvc-9', anywhere, { size })).id)).toBe('a');
  });

  function ready(isReady: boolean) {
    const [status, reason] = isReady ? ['True', 'Serving'] : ['False', 'Starting'];
    return { type: 'Ready', status, reason, message: 'x', lastTransitionTime: '2026-01-01T00:00:00Z' };
  }
});

describe('a volume with a source', () => {
  beforeEach(async () => {
    await create('origin', on('b'));
    await disks.createSnapshot({ name: 'snap', diskId: 'origin' }, anywhere.nodes);
  });
  const source = { kind: 'disk', id: 'origin' } as const;

  it('is made where its source is, as big as that at least', async () => {
    const size = { requiredBytes: 0, limitBytes: 0 };
    const clone = await create(
      'clone',
      { ...anywhere, nodes: { allowed: ['a', 'b'], preferred: ['a', 'b'] } },
      { source, size },
    );
    expect(clone).toMatchObject({ nodeName: 'b', sizeBytes: 5 * GiB, source });
    const restored = await create('restored', anywhere, { source: { kind: 'snapshot', id: 'snap' } });
    expect(restored).toMatchObject({ nodeName: 'b', source: { kind: 'snapshot', id: 'snap' } });
    const small = { source, size: { requiredBytes: GiB, limitBytes: GiB } };
    expect((await failureOf(create('small', anywhere, small))).code).toBe('size-out-of-range');
  });

  it('that is wanted elsewhere is RESOURCE_EXHAUSTED, never NOT_FOUND', async () => {
    for (const wanted of [source, { kind: 'snapshot', id: 'snap' } as const]) {
      const failure = await failureOf(create('clone', on('a'), { source: wanted }));
      expect([failure.code, failure.kind]).toEqual(['topology-unsatisfiable', 'exhausted']);
      expect(failure.message).toContain('the source is on node b');
    }
    expect(scene.find(diskImages, 'clone')).toBeUndefined();
  });

  it('that is not there is not found, one that is not made yet is waited for', async () => {
    const missing = (kind: 'disk' | 'snapshot') =>
      failureOf(create('x', anywhere, { source: { kind, id: 'nowhere' } }));
    expect((await missing('disk')).code).toBe('disk-not-found');
    expect((await missing('snapshot')).code).toBe('snapshot-not-found');
    a.reply = () => 'nothing';
    const late = create('late', on('a'));
    await timeOut(late, () => scene.find(diskImages, 'late') !== undefined);
    expect((await failureOf(create('x', anywhere, { source: { kind: 'disk', id: 'late' } }))).code).toBe('busy');
  });

  it('that goes while the volume waits for it is not found, and not waited for, for ever', async () => {
    const wanted = { source: { kind: 'snapshot', id: 'snap' } } as const;
    b.reply = (_, name) => (name === 'late' ? { reason: 'WaitingForSource', message: 'no such snapshot' } : 'done');
    const late = create('late', anywhere, wanted);
    const isWaiting = () => JSON.stringify(scene.find(diskImages, 'late') ?? {}).includes('WaitingForSource');
    expect((await timeOut(late, isWaiting)).code).toBe('busy');
    expect((await timeOut(create('late', anywhere, wanted), isWaiting)).code).toBe('busy');
    b.reply = () => 'done';
    await disks.deleteSnapshot('snap');
    const failure = await failureOf(create('late', anywhere, wanted));
    expect([failure.code, failure.message]).toEqual(['snapshot-not-found', 'there is no snapshot snap']);
    expect(scene.find(diskImages, 'late')).toBeUndefined();
  });

  it('of another pool is refused', async () => {
    scene.addNode({ name: 'c', pool: 'fast' });
    const fast = await scene.service();
    const failure = await failureOf(create('x', { ...anywhere, pool: 'fast' }, { source }, fast));
    expect(failure).toMatchObject({ code: 'unsupported' });
    expect(failure.message).toContain("the source is in the pool 'default'");
  });
});

describe('a volume that cannot be made', () => {
  it('is answered with what the node reports, when nothing is left of it', async () => {
    a.reply = (task) => (task === 'make' ? { reason: 'PoolFull', message: 'the pool does not take it' } : 'done');
    const failure = await failureOf(create('pvc-1'));
    expect([failure.code, failure.message]).toEqual(['pool-full', 'the pool does not take it']);
    expect(scene.find(diskImages, 'pvc-1')).toBeUndefined();
    expect(await disks.listDisks()).toEqual([]);
    a.reply = (task) => (task === 'make' ? { reason: 'Unexpected', message: 'no such file' } : 'done');
    expect(await failureOf(create('pvc-1'))).toEqual(new Error('no such file'));
    a.reply = () => 'done';
    await create('pvc-1');
  });

  it('is busy while it is not cleared away, and told when it is', async () => {
    a.reply = (task) => (task === 'make' ? { reason: 'ToolFailed', message: 'exit 1' } : 'nothing');
    const isLeaving = () => scene.find(diskImages, 'pvc-1')?.metadata.deletionTimestamp !== undefined;
    const failure = await timeOut(create('pvc-1'), isLeaving);
    expect(failure.code).toBe('busy');
    expect(failure.message).toContain('cannot be made (exit 1), and node a has not cleared it away yet');
    expect((await failureOf(create('pvc-1'))).message).toContain('is still being deleted');
    a.reply = () => 'done';
    a.wake();
    await until(() => scene.find(diskImages, 'pvc-1') === undefined);
    await create('pvc-1');
  });

  it('for a time only is waited for, and its failure told when the time is over', async () => {
    a.reply = () => ({ reason: 'EngineUnavailable', message: 'no engine answers' });
    const caches = scene.caches();
    const patient = await scene.service(caches);
    // Not only to the API server, which tells it a moment later.
    const isReported = () =>
      (caches.images.cache.get('lamina-system/pvc-1')?.status.conditions ?? []).some(({ type }) => type === 'Ready');
    const failure = await timeOut(create('pvc-1', anywhere, {}, patient), isReported);
    expect([failure.code, failure.kind]).toEqual(['engine-unavailable', 'unavailable']);
    a.reply = () => 'done';
    const again = create('pvc-1');
    a.wake();
    await again;
    expect(writes()).toHaveLength(1);
  });

  it('because its node is gone is cleared away, and made elsewhere', async () => {
    a.reply = () => 'nothing';
    const failure = failureOf(create('pvc-1'));
    await until(() => nodeOf('pvc-1') === 'a');
    a.vanish();
    const gone = {
      type: 'Ready',
      status: 'False',
      reason: 'NodeGone',
      message: 'x',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    };
    scene.patch(diskImages, 'pvc-1', { status: { conditions: [gone] } }, { subresource: 'status' });
    await until(() => scene.find(diskImages, 'pvc-1')?.metadata.deletionTimestamp !== undefined);
    // As the elected controller does.
    scene.patch(diskImages, 'pvc-1', { metadata: { finalizers: [] } });
    expect((await failure).code).toBe('topology-unsatisfiable');
    expect((await create('pvc-1')).nodeName).toBe('b');
  });

  it('because its node is gone is cleared away, though the end of the node is heard of last', async () => {
    a.reply = () => 'nothing';
    const failure = failureOf(create('pvc-1'));
    await until(() => nodeOf('pvc-1') === 'a');
    const at = '2026-01-01T00:00:00Z';
    const gone = { type: 'Ready', status: 'False', reason: 'NodeGone', message: 'x', lastTransitionTime: at };
    scene.patch(diskImages, 'pvc-1', { status: { conditions: [gone] } }, { subresource: 'status' });
    await scene.settle();
    expect(scene.find(diskImages, 'pvc-1')?.metadata.deletionTimestamp).toBeUndefined();
    a.vanish();
    await until(() => scene.find(diskImages, 'pvc-1')?.metadata.deletionTimestamp !== undefined);
    scene.patch(diskImages, 'pvc-1', { metadata: { finalizers: [] } });
    expect((await failure).code).toBe('topology-unsatisfiable');
  });

  it('because its node is silent is told with the name of the node, and how far it is', async () => {
    a.reply = () => 'nothing';
    const isThere = () => scene.find(diskImages, 'pvc-1') !== undefined;
    expect((await timeOut(create('pvc-1'), isThere)).message).toBe(
      'node a has not begun to make the volume pvc-1: is its node plugin running?',
    );
    a.setNodeReady('Unknown');
    const isTold = () => scene.server.objects.list(nodeType).every(({ status }) => status !== undefined);
    await until(isTold);
    expect((await timeOut(create('pvc-1'))).message).toContain('the node is not ready');
    a.reply = () => ({ reason: 'Making', message: 'zeroes are written', progress: '45%' });
    a.wake();
    const making = await timeOut(create('pvc-1'));
    expect([making.code, making.message]).toEqual([
      'busy',
      'node a is still making the volume pvc-1 (45%): zeroes are written',
    ]);
  });

  it('on a node that is not allowed any more is cleared away first, unless it was made', async () => {
    a.reply = (task) => (task === 'make' ? 'nothing' : 'done');
    await timeOut(create('pvc-1', on('a')), () => nodeOf('pvc-1') === 'a');
    expect((await failureOf(create('pvc-1', on('b')))).code).toBe('topology-unsatisfiable');
    expect(scene.find(diskImages, 'pvc-1')).toBeUndefined();
    expect((await create('pvc-1', on('b'))).nodeName).toBe('b');
    expect((await failureOf(create('pvc-1', on('a')))).message).toContain(
      "in the pool 'default' of node b, but allowed are a",
    );
    expect(nodeOf('pvc-1')).toBe('b');
  });
});

describe('calls for one volume at once', () => {
  it('of two controllers make one volume', async () => {
    const other = await scene.service();
    const results = await Promise.all([create('pvc-1'), create('pvc-1', anywhere, {}, other), create('pvc-1')]);
    expect(new Set(results.map(({ id }) => id)).size).toBe(1);
    expect(scene.server.objects.list(diskImages)).toHaveLength(1);
  });

  it('end with what is there when somebody deletes the volume meanwhile', async () => {
    a.reply = (task) => (task === 'make' ? 'nothing' : 'done');
    const failure = failureOf(create('pvc-1'));
    await until(() => scene.find(diskImages, 'pvc-1') !== undefined);
    scene.remove(diskImages, 'pvc-1');
    expect((await failure).code).toBe('busy');
    a.reply = () => 'done';
    await create('pvc-1');
  });
});

describe('createDisk through faults', () => {
  const isPost = ({ method, path }: { method: string; path: string }) =>
    method === 'POST' && path.includes('diskimages');

  it('finds what was made where the answer was lost', async () => {
    scene.server.inject({ fault: { kind: 'drop-after' }, match: isPost });
    expect((await failureOf(create('pvc-1'))).kind).toBe('unavailable');
    await create('pvc-1');
    expect(scene.server.objects.list(diskImages)).toHaveLength(1);
  });

  it('answers UNAVAILABLE while the API server is away, and goes on afterwards', async () => {
    await scene.server.stop();
    expect((await failureOf(create('pvc-1'))).kind).toBe('unavailable');
    await scene.server.start();
    await until(() => scene.clock.pending.some((ms) => ms <= 1000) || scene.server.watchCount === 4);
    scene.clock.advance(1000);
    await until(() => scene.server.watchCount === 4);
    await create('pvc-1');
  });

  it('does not take a volume for made before the node says so, though its watch lags', async () => {
    await until(() => scene.server.watchCount === 4);
    scene.server.muteWatches();
    const call = create('pvc-1');
    const failure = await timeOut(call, () => scene.find(diskImages, 'pvc-1')?.['status'] !== undefined);
    expect(failure.code).toBe('busy');
    // The API server is asked, whatever the cache shows.
    await create('pvc-1');
    expect(await disks.getDisk('pvc-1')).toMatchObject({ id: 'pvc-1', nodeName: 'a' });
  });

  it('ends at once when the process is to stop, and is not final then', async () => {
    a.reply = () => 'nothing';
    const failure = failureOf(create('pvc-1'));
    await until(() => scene.find(diskImages, 'pvc-1') !== undefined);
    scene.stop.abort();
    expect((await failure).code).toBe('busy');
  });

  it('leaves a pool alone that is not understood', async () => {
    scene.create(diskPools, { name: 'odd' }, { poolName: 7 });
    expect((await create('pvc-1')).nodeName).toBe('a');
  });
});
