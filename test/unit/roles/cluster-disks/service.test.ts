import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages, diskSnapshots } from '../../../../src/api/objects.ts';
import type { DiskService, Placement } from '../../../../src/csi/controller/disk-service.ts';
import { GiB, MiB } from '../../../../src/lib/bytes.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, failureOf, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;
let disks: DiskService;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a', thin: '100Gi' });
  scene.addNode({ name: 'b', thin: '60Gi' });
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
const options = { format: 'qcow2', preallocation: 'off', clusterSizeBytes: null, liveSnapshots: false } as const;
const bytes = (requiredBytes: number, limitBytes = 0) => ({ requiredBytes, limitBytes });

const create = (name: string, preallocation: 'off' | 'falloc' = 'off') =>
  disks.createDisk({ name, size: bytes(5 * GiB), options: { ...options, preallocation }, source: null }, anywhere);
const snapshot = (name: string, diskId = 'pvc-1', allowed: string[] | null = null) =>
  disks.createSnapshot({ name, diskId }, { allowed, preferred: [] });
const specOf = (name: string) => scene.find(diskImages, name)?.['spec'] as Record<string, unknown> | undefined;
const setStatus = (name: string, status: object) =>
  scene.patch(diskImages, name, { status }, { subresource: 'status' });
const writes = () => scene.server.writes.filter(({ path }) => path.includes('lamina.storage'));

describe('deleteDisk', () => {
  beforeEach(() => create('pvc-1'));

  it('returns when the node has deleted the disk, and once more', async () => {
    await disks.deleteDisk('pvc-1');
    expect(scene.find(diskImages, 'pvc-1')).toBeUndefined();
    expect(await disks.listDisks()).toEqual([]);
    await disks.deleteDisk('pvc-1');
    await disks.deleteDisk('../../etc');
    expect((await failureOf(disks.getDisk('pvc-1'))).code).toBe('disk-not-found');
    expect(writes().filter(({ method }) => method === 'DELETE')).toHaveLength(1);
  });

  it('is refused while the disk is attached, as the node has reported or finds', async () => {
    setStatus('pvc-1', { attached: true });
    expect((await failureOf(disks.deleteDisk('pvc-1'))).code).toBe('disk-in-use');
    expect(scene.find(diskImages, 'pvc-1')?.metadata.deletionTimestamp).toBeUndefined();
    setStatus('pvc-1', { attached: null });
    a.reply = () => ({ reason: 'DiskInUse', message: 'it is attached as /dev/loop7' });
    expect(await failureOf(disks.deleteDisk('pvc-1'))).toMatchObject({
      code: 'disk-in-use',
      message: 'it is attached as /dev/loop7',
    });
    a.reply = () => 'done';
    const again = disks.deleteDisk('pvc-1');
    a.wake();
    await again;
  });

  it('is busy until the node has done it, and goes on where it was', async () => {
    a.reply = () => 'nothing';
    const failure = await scene.timeOut(disks.deleteDisk('pvc-1'));
    expect([failure.code, failure.message]).toEqual([
      'busy',
      'node a has not deleted the volume pvc-1 yet: is its node plugin running?',
    ]);
    expect(await disks.getDisk('pvc-1')).toMatchObject({ id: 'pvc-1' });
    a.reply = () => ({ reason: 'EngineUnavailable', message: 'no engine' });
    a.wake();
    expect((await scene.timeOut(disks.deleteDisk('pvc-1'))).code).toBe('engine-unavailable');
    a.reply = () => 'done';
    const again = disks.deleteDisk('pvc-1');
    a.wake();
    await again;
    expect(writes().filter(({ method }) => method === 'DELETE')).toHaveLength(1);
  });

  it('does not believe an earlier failure', async () => {
    const failed = { reason: 'ToolFailed', message: 'x', status: 'False', type: 'Ready', observedGeneration: 1 };
    setStatus('pvc-1', { conditions: [{ ...failed, lastTransitionTime: '2026-01-01T00:00:00Z' }] });
    await disks.deleteDisk('pvc-1');
  });

  it('leaves alone what CSI has not asked for', async () => {
    scene.create(diskImages, { name: 'golden', namespace: 'lamina-system' }, { size: '1Gi', nodeName: 'a' });
    scene.create(diskImages, { name: 'pvc-9', namespace: 'media' }, { size: '1Gi', nodeName: 'a' });
    await disks.deleteDisk('golden');
    await disks.deleteDisk('pvc-9');
    expect(scene.server.objects.list(diskImages)).toHaveLength(3);
    expect((await disks.listDisks()).map(({ id }) => id)).toEqual(['pvc-1']);
  });

  it('is over where somebody has taken the finalizer away, and does not touch what comes after', async () => {
    a.reply = () => 'nothing';
    const deletion = disks.deleteDisk('pvc-1');
    await until(() => scene.find(diskImages, 'pvc-1')?.metadata.deletionTimestamp !== undefined);
    scene.patch(diskImages, 'pvc-1', { metadata: { finalizers: [] } });
    scene.create(diskImages, { name: 'pvc-1', namespace: 'lamina-system' }, { size: '1Gi' });
    await deletion;
    expect(scene.find(diskImages, 'pvc-1')).toMatchObject({ spec: { size: '1Gi' } });
  });

  it('is sure that it is gone, though its watch lags', async () => {
    await until(() => scene.server.watchCount === 4);
    scene.server.muteWatches();
    a.reply = () => 'nothing';
    expect((await scene.timeOut(disks.deleteDisk('pvc-1'))).code).toBe('busy');
    scene.patch(diskImages, 'pvc-1', { metadata: { finalizers: [] } });
    await disks.deleteDisk('pvc-1');
  });
});

describe('growDisk', () => {
  beforeEach(() => create('pvc-1'));

  it('returns when the node has grown the disk, and writes nothing where it is big enough', async () => {
    expect((await disks.growDisk('pvc-1', bytes(8 * GiB))).sizeBytes).toBe(8 * GiB);
    expect(specOf('pvc-1')?.['size']).toBe('8Gi');
    const before = writes().length;
    expect((await disks.growDisk('pvc-1', bytes(8 * GiB))).sizeBytes).toBe(8 * GiB);
    expect((await disks.growDisk('pvc-1', bytes(GiB))).sizeBytes).toBe(8 * GiB);
    expect(await failureOf(disks.growDisk('pvc-1', bytes(0, GiB)))).toMatchObject({
      code: 'size-out-of-range',
      message: expect.stringContaining('(the volume has 8 GiB), but at most 1073741824 are allowed'),
    });
    expect((await failureOf(disks.growDisk('nowhere', bytes(GiB)))).code).toBe('disk-not-found');
    expect(writes()).toHaveLength(before);
  });

  it('does not begin where the pool has no room', async () => {
    await create('thick', 'falloc');
    const failure = await failureOf(disks.growDisk('thick', bytes(56 * GiB)));
    expect([failure.code, failure.message]).toEqual([
      'pool-full',
      "the volume thick cannot grow by 51 GiB: its pool 'default' on node a has room for 50 GiB. Delete volumes or snapshots, or add space",
    ]);
    expect(specOf('thick')?.['size']).toBe('5Gi');
    // Under layers that it shares, it is thin.
    setStatus('thick', { chainDepth: 2 });
    await disks.growDisk('thick', bytes(56 * GiB));
  });

  it('wants the old size again where it fails for good', async () => {
    a.reply = (task) => (task === 'grow' ? { reason: 'PoolFull', message: 'no room' } : 'done');
    expect(await failureOf(disks.growDisk('pvc-1', bytes(8 * GiB)))).toMatchObject({
      code: 'pool-full',
      message: 'no room',
    });
    expect(specOf('pvc-1')?.['size']).toBe('5Gi');
    a.reply = (task) => (task === 'grow' ? { reason: 'WaitingForDetach', message: 'stop the pod' } : 'done');
    expect(await failureOf(disks.growDisk('pvc-1', bytes(9 * GiB)))).toMatchObject({
      code: 'disk-in-use',
      message: 'stop the pod',
    });
    expect(specOf('pvc-1')?.['size']).toBe('5Gi');
    a.reply = () => 'done';
    expect((await disks.growDisk('pvc-1', bytes(6 * GiB))).sizeBytes).toBe(6 * GiB);
  });

  it('wants the old size again in spite of what the node reports at that moment, but not where another one is wanted', async () => {
    a.reply = (task) => (task === 'grow' ? { reason: 'ToolFailed', message: 'x' } : 'done');
    const isOld = ({ method, body }: { method: string; body: unknown }) =>
      method === 'PATCH' && JSON.stringify(body).includes('5Gi');
    scene.server.inject({ fault: { kind: 'status', status: 409, reason: 'Conflict' }, match: isOld, times: 2 });
    expect((await failureOf(disks.growDisk('pvc-1', bytes(8 * GiB)))).code).toBe('tool-failed');
    expect(specOf('pvc-1')?.['size']).toBe('5Gi');
    const gate = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise }, match: isOld });
    const failure = failureOf(disks.growDisk('pvc-1', bytes(8 * GiB)));
    await until(() => scene.server.requests.filter(isOld).length === 4);
    scene.patch(diskImages, 'pvc-1', { spec: { size: '7Gi' } });
    gate.resolve();
    await failure;
    expect(specOf('pvc-1')?.['size']).toBe('7Gi');
  });

  it('goes on with what an earlier call has asked for, and takes back what one that was killed has left', async () => {
    a.reply = () => 'nothing';
    expect((await scene.timeOut(disks.growDisk('pvc-1', bytes(50 * GiB)))).message).toBe(
      'node a has not begun to grow the volume pvc-1: is its node plugin running?',
    );
    expect(specOf('pvc-1')?.['size']).toBe('50Gi');
    const before = writes().length;
    expect((await scene.timeOut(disks.growDisk('pvc-1', bytes(50 * GiB)))).code).toBe('busy');
    expect(writes()).toHaveLength(before);
    const smaller = disks.growDisk('pvc-1', bytes(6 * GiB));
    await until(() => specOf('pvc-1')?.['size'] === '6Gi');
    a.reply = () => 'done';
    a.wake();
    expect((await smaller).sizeBytes).toBe(6 * GiB);
  });

  it('is no conflict with what the node reports at the same moment', async () => {
    const gate = Promise.withResolvers<void>();
    const isPatch = ({ method }: { method: string }) => method === 'PATCH';
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise }, match: isPatch });
    const grown = disks.growDisk('pvc-1', bytes(8 * GiB));
    await until(() => scene.server.requests.some(isPatch));
    setStatus('pvc-1', { allocated: '3Mi' });
    gate.resolve();
    await grown;
  });
});

describe('modifyDisk', () => {
  beforeEach(() => create('pvc-1'));

  it('returns when the node has taken it over, and writes nothing where it is so already', async () => {
    const before = writes().length;
    await disks.modifyDisk('pvc-1', { liveSnapshots: true });
    await disks.modifyDisk('pvc-1', { liveSnapshots: true });
    await disks.modifyDisk('pvc-1', {});
    expect(writes()).toHaveLength(before + 1);
    expect(specOf('pvc-1')?.['liveSnapshots']).toBe(true);
    expect(scene.find(diskImages, 'pvc-1')?.['status']).toMatchObject({ observedGeneration: 2 });
    a.silence();
    expect((await scene.timeOut(disks.modifyDisk('pvc-1', { liveSnapshots: false }))).code).toBe('busy');
    expect((await failureOf(disks.modifyDisk('nowhere', {}))).code).toBe('disk-not-found');
  });
});

describe('createSnapshot', () => {
  beforeEach(() => create('pvc-1'));

  it('declares a DiskSnapshot on the node of the disk, and returns when it is taken', async () => {
    const taken = await snapshot('snap-1');
    expect(taken).toEqual({
      id: 'snap-1',
      diskId: 'pvc-1',
      sizeBytes: 5 * GiB,
      createdAt: new Date('2026-01-01T00:00:00Z'),
      ready: true,
    });
    expect(scene.find(diskSnapshots, 'snap-1')).toMatchObject({
      metadata: { finalizers: ['lamina.storage/snapshot'], annotations: { 'lamina.storage/csi-name': 'snap-1' } },
      spec: { diskImageName: 'pvc-1', nodeName: 'a' },
    });
    const before = writes().length;
    expect(await snapshot('snap-1')).toEqual(taken);
    expect(await disks.getSnapshot('snap-1')).toEqual(taken);
    expect(await disks.listSnapshots()).toEqual([taken]);
    await create('pvc-2');
    expect((await failureOf(snapshot('snap-1', 'pvc-2'))).code).toBe('name-taken');
    expect(writes()).toHaveLength(before + 1);
  });

  it('is refused where there is no disk, or it is not where the snapshot is wanted', async () => {
    expect((await failureOf(snapshot('snap-1', 'nowhere'))).code).toBe('disk-not-found');
    expect((await failureOf(snapshot('snap-1', 'pvc-1', ['b']))).code).toBe('topology-unsatisfiable');
    expect((await failureOf(snapshot('a/b'))).code).toBe('invalid-parameter');
    expect((await failureOf(disks.getSnapshot('snap-1'))).code).toBe('snapshot-not-found');
    expect(scene.server.objects.list(diskSnapshots)).toEqual([]);
  });

  it('that fails for good leaves nothing behind', async () => {
    a.reply = (task) => (task === 'take' ? { reason: 'LiveSnapshotUnsupported', message: 'detach it first' } : 'done');
    expect((await failureOf(snapshot('snap-1'))).code).toBe('live-snapshot-unsupported');
    expect(scene.find(diskSnapshots, 'snap-1')).toBeUndefined();
    a.reply = () => 'done';
    await snapshot('snap-1');
  });

  it('is busy until it is taken, and is the same one when it is asked for again', async () => {
    a.reply = () => 'nothing';
    const failure = await scene.timeOut(snapshot('snap-1'));
    expect([failure.code, failure.message]).toEqual([
      'busy',
      'node a has not begun to take the snapshot snap-1: is its node plugin running?',
    ]);
    a.reply = () => 'done';
    const again = snapshot('snap-1');
    a.wake();
    await again;
    expect(scene.server.objects.list(diskSnapshots)).toHaveLength(1);
  });

  it('of a disk that goes before it is taken is not found, and not waited for, for ever', async () => {
    a.reply = (task) => (task === 'take' ? { reason: 'WaitingForDisk', message: 'no such disk' } : 'done');
    const isWaiting = () => JSON.stringify(scene.find(diskSnapshots, 'snap-1') ?? {}).includes('WaitingForDisk');
    expect((await scene.timeOut(snapshot('snap-1'), isWaiting)).code).toBe('busy');
    await disks.deleteDisk('pvc-1');
    expect((await failureOf(snapshot('snap-1'))).code).toBe('disk-not-found');
    expect(scene.find(diskSnapshots, 'snap-1')).toBeUndefined();
  });

  it('is deleted, with the disk before it or after', async () => {
    await snapshot('snap-1');
    await disks.deleteDisk('pvc-1');
    expect(await disks.listSnapshots()).toHaveLength(1);
    expect(await snapshot('snap-1')).toMatchObject({ id: 'snap-1' });
    await disks.deleteSnapshot('snap-1');
    await disks.deleteSnapshot('snap-1');
    expect(scene.server.objects.list(diskSnapshots)).toEqual([]);
  });
});

describe('what is told of volumes', () => {
  it('is in the order of their ids, without those that are not made yet', async () => {
    await create('pvc-2');
    await create('pvc-1');
    a.reply = () => 'nothing';
    await scene.timeOut(create('pvc-3'));
    expect((await disks.listDisks()).map(({ id }) => id)).toEqual(['pvc-1', 'pvc-2']);
    const failure = await failureOf(disks.getDisk('pvc-3'));
    expect([failure.code, failure.message]).toEqual([
      'disk-not-found',
      'there is no volume pvc-3 yet: it is being made',
    ]);
  });

  it('is what is wrong with them, and whether they are in use', async () => {
    await create('pvc-1');
    const healthy = { type: 'Healthy', lastTransitionTime: '2026-01-01T00:00:00Z', observedGeneration: 1 };
    const told = async (status: string, reason: string) => {
      setStatus('pvc-1', {
        attached: true,
        conditions: [{ ...healthy, status, reason, message: 'its daemon is gone' }],
      });
      await until(async () => (await disks.listDisks()).every(({ attached }) => attached));
      return (await disks.getDisk('pvc-1')).unhealthy;
    };
    expect(await told('False', 'EngineDead')).toBe('EngineDead: its daemon is gone');
    await until(async () => (await told('Unknown', 'NotChecked')) === null);
    await until(async () => (await told('Unknown', 'NodeSilent')) === 'NodeSilent: its daemon is gone');
  });
});

describe('capacity', () => {
  const room = (preallocation: 'off' | 'full', node: string | null) =>
    disks.capacity({ preallocation }, 'default', node);

  it('is the room of one node, of all nodes, or nothing', async () => {
    expect(await room('off', 'a')).toEqual({
      availableBytes: 100 * GiB,
      maximumVolumeBytes: 100 * GiB,
      minimumVolumeBytes: MiB,
    });
    expect(await room('full', 'b')).toMatchObject({ availableBytes: 50 * GiB });
    expect(await room('off', null)).toMatchObject({ availableBytes: 160 * GiB, maximumVolumeBytes: 100 * GiB });
    expect(await room('off', 'c')).toMatchObject({ availableBytes: 0, maximumVolumeBytes: 0 });
    expect((await failureOf(disks.capacity({ preallocation: 'off' }, 'fast', 'a'))).code).toBe('invalid-parameter');
    expect((await failureOf(disks.requirePool('fast'))).code).toBe('invalid-parameter');
    await disks.requirePool('default');
  });

  it('is less by what is promised, and nothing where the pool is not served', async () => {
    a.reply = () => 'nothing';
    await scene.timeOut(create('pvc-1'));
    expect(await room('off', 'a')).toMatchObject({ availableBytes: 95 * GiB });
    a.reportPool({
      conditions: [
        { type: 'Ready', status: 'False', reason: 'Stopped', message: 'x', lastTransitionTime: '2026-01-01T00:00:00Z' },
      ],
    });
    await until(async () => (await room('off', 'a')).availableBytes === 0);
    expect(await room('off', null)).toMatchObject({ availableBytes: 60 * GiB });
  });
});
