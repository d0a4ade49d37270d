import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { annotations, finalizers, groupVersion } from '../../../src/api/names.ts';
import { diskImages, diskPools, diskSnapshots } from '../../../src/api/objects.ts';
import type { DiskService } from '../../../src/csi/controller/disk-service.ts';
import { namespaceType, persistentVolumeClaimType, persistentVolumeType } from '../../../src/kube/kinds/core-kinds.ts';
import { storageClassType } from '../../../src/kube/kinds/storage-kinds.ts';
import { GiB } from '../../../src/lib/bytes.ts';
import { listSteps } from '../../../src/lib/checkpoint.ts';
import { type ControllerStep, controllerSteps } from '../../../src/reconcile/cluster/controller-steps.ts';
import { copyOf } from '../../../src/reconcile/cluster/copy-object.ts';
import type { FakeObject } from '../../fakes/api-objects.ts';
import type { FakeClusterNode } from '../../fakes/cluster-node.ts';
import { ClusterScene, failureOf, systemNamespace, until } from '../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a' });
  scene.create(namespaceType, { name: systemNamespace }, {});
});

afterEach(() => scene.end());

const size = (requiredBytes: number) => ({ requiredBytes, limitBytes: 0 });
const create = (disks: DiskService) =>
  disks.createDisk(
    {
      name: 'pvc-1',
      size: size(GiB),
      options: { format: 'qcow2', preallocation: 'off', clusterSizeBytes: null, liveSnapshots: false },
      source: null,
    },
    { nodes: { allowed: null, preferred: [] }, pool: 'default', claim: null, transfer: 'images' as const },
  );
const take = (disks: DiskService) =>
  disks.createSnapshot({ name: 'snap-1', diskId: 'pvc-1' }, { allowed: null, preferred: [] });
const images = () => scene.server.objects.list(diskImages).map(({ spec }) => (spec as { size: string }).size);
const snapshots = () => scene.server.objects.list(diskSnapshots).length;
const fail = (task: string) => {
  a.reply = (one) => (one === task ? { reason: 'PoolFull', message: 'no room' } : 'done');
};

interface Story {
  before?: (disks: DiskService) => Promise<unknown>;
  call: (disks: DiskService) => Promise<unknown>;
  /** What there is when the call was repeated. */
  end: () => void;
}

const isFull = async (call: Promise<unknown>) => expect((await failureOf(call)).code).toBe('pool-full');

/** For each step of what CSI asks for: a call that comes by it. */
const stories: Partial<Record<ControllerStep, Story>> = {
  'create-volume/image-declared': { call: create, end: () => expect(images()).toEqual(['1Gi']) },
  'create-volume/image-made': { call: create, end: () => expect(images()).toEqual(['1Gi']) },
  'create-volume/image-withdrawn': {
    before: async () => fail('make'),
    call: (disks) => isFull(create(disks)),
    end: () => expect(images()).toEqual([]),
  },
  'delete-volume/image-deleted': {
    before: create,
    call: (disks) => disks.deleteDisk('pvc-1'),
    end: () => expect(images()).toEqual([]),
  },
  'grow-volume/size-wanted': {
    before: create,
    call: (disks) => disks.growDisk('pvc-1', size(2 * GiB)),
    end: () => expect(images()).toEqual(['2Gi']),
  },
  'grow-volume/old-size-wanted': {
    before: async (disks) => {
      await create(disks);
      fail('grow');
    },
    call: (disks) => isFull(disks.growDisk('pvc-1', size(2 * GiB))),
    end: () => expect(images()).toEqual(['1Gi']),
  },
  'modify-volume/change-wanted': {
    before: create,
    call: (disks) => disks.modifyDisk('pvc-1', { liveSnapshots: true }),
    end: () => expect(scene.find(diskImages, 'pvc-1')).toMatchObject({ spec: { liveSnapshots: true } }),
  },
  'create-snapshot/snapshot-declared': { before: create, call: take, end: () => expect(snapshots()).toBe(1) },
  'create-snapshot/snapshot-taken': { before: create, call: take, end: () => expect(snapshots()).toBe(1) },
  'create-snapshot/snapshot-withdrawn': {
    before: async (disks) => {
      await create(disks);
      fail('take');
    },
    call: (disks) => isFull(take(disks)),
    end: () => expect(snapshots()).toBe(0),
  },
  'delete-snapshot/snapshot-deleted': {
    before: async (disks) => {
      await create(disks);
      await take(disks);
    },
    call: (disks) => disks.deleteSnapshot('snap-1'),
    end: () => expect(snapshots()).toBe(0),
  },
};

/** What the elected controller does by itself: what it finds, and how that ends. */
const works: Partial<Record<ControllerStep, { find: () => void; isDone: () => boolean }>> = {
  'place-image/choice-told': { find: declareUnplaced, isDone: () => isMade('d1') },
  'place-image/node-named': { find: declareUnplaced, isDone: () => isMade('d1') },
  'forget-node/image-told': { find: declareOnGone, isDone: isForgotten },
  'forget-node/image-released': { find: deleteOnGone, isDone: () => snapshots() === 0 && images().length === 0 },
  'forget-node/snapshot-told': { find: declareOnGone, isDone: isForgotten },
  'forget-node/snapshot-released': { find: deleteOnGone, isDone: () => snapshots() === 0 && images().length === 0 },
  'forget-node/pool-told': { find: () => a.vanish(), isDone: () => reasonOf(diskPools, 'default.a') === undefined },
  'forget-node/pool-removed': { find: () => a.vanish(), isDone: () => reasonOf(diskPools, 'default.a') === undefined },
  'snapshot-source/snapshot-declared': { find: declareFarClone, isDone: isCloned },
  'snapshot-source/snapshot-deleted': { find: declareFarClone, isDone: isCloned },
  'copy-image/copy-declared': { find: declareCopied, isDone: isCopied },
  'copy-image/copy-removed': { find: declareLostCopy, isDone: isCopied },
  'copy-image/status-written': { find: declareCopied, isDone: isCopied },
  'adopt-orphans/disk-declared': { find: listOrphans, isDone: () => images().length === 2 && snapshots() === 1 },
  'adopt-orphans/snapshot-declared': { find: listOrphans, isDone: () => images().length === 2 && snapshots() === 1 },
  'populate-claim/volume-made': { find: claimFromImage, isDone: isPopulated },
  'populate-claim/volume-declared': { find: claimFromImage, isDone: isPopulated },
  'sweep-unclaimed/claim-noted': {
    find: () => {
      declareUnclaimed();
      const csi = { driver: 'csi.lamina.storage', volumeHandle: 'pvc-1' };
      scene.create(persistentVolumeType, { name: 'pvc-1' }, { csi });
    },
    isDone: () => JSON.stringify(scene.find(diskImages, 'pvc-1')).includes('PersistentVolume pvc-1'),
  },
  'sweep-unclaimed/object-deleted': { find: declareUnclaimed, isDone: () => images().length === 0 },
};

function declareUnplaced(): void {
  scene.create(diskImages, { name: 'd1', namespace: systemNamespace }, { size: '1Gi', source: { type: 'blank' } });
}

function claimFromImage(): void {
  const source = { type: 'http', http: { url: 'https://example.org/debian' } };
  scene.create(diskImages, { name: 'debian', namespace: 'shop' }, { size: '1Gi', nodeName: 'a', sealed: true, source });
  scene.server.objects.create(
    { type: storageClassType, namespace: '' },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'fast' },
      provisioner: 'csi.lamina.storage',
    },
  );
  const dataSourceRef = { apiGroup: 'lamina.storage', kind: 'DiskImage', name: 'debian' };
  const spec = { accessModes: ['ReadWriteOnce'], storageClassName: 'fast', dataSourceRef };
  scene.create(persistentVolumeClaimType, { name: 'root', namespace: 'shop' }, spec);
}

/** A disk that starts from one of another node. */
function declareFarClone(): void {
  const b = scene.addNode({ name: 'b' });
  // As a node that finds out from where it is to fetch only when it is told.
  const isTold = () => scene.find(diskImages, 'clone')?.['status'] !== undefined;
  b.reply = (task) => (task === 'make' && !isTold() ? 'nothing' : 'done');
  scene.create(diskImages, { name: 'd1', namespace: systemNamespace }, { size: '1Gi', nodeName: 'a' });
  const source = { type: 'diskImage', diskImage: { name: 'd1' } };
  scene.create(diskImages, { name: 'clone', namespace: systemNamespace }, { size: '1Gi', nodeName: 'b', source });
}

function isCloned(): boolean {
  return isMade('d1') && isMade('clone') && snapshots() === 0;
}

function declareCopied(): FakeObject {
  scene.addNode({ name: 'b' });
  const source = { type: 'http', http: { url: 'https://example.org/debian' } };
  const spec = { nodeName: 'a', sealed: true, source, nodes: ['b'] };
  return scene.create(diskImages, { name: 'debian', namespace: 'shop' }, spec);
}

/** Its node does not hold the copy any more. */
function declareLostCopy(): void {
  const original = diskImages.parse({ ...declareCopied(), apiVersion: groupVersion, kind: 'DiskImage' });
  const { metadata, spec } = copyOf(original, 'b');
  scene.create(diskImages, metadata, spec);
  const lost = { type: 'Ready', status: 'False', reason: 'Lost', message: '', lastTransitionTime: longAgo };
  const status = { diskId: 'x', virtualSize: '1Gi', observedGeneration: 1, conditions: [lost] };
  scene.patch(diskImages, metadata.name, { status }, { namespace: 'shop', subresource: 'status' });
}

function isCopied(): boolean {
  const { conditions = [] } = (scene.find(diskImages, 'debian', 'shop')?.['status'] ?? {}) as Reported;
  return images().length === 2 && conditions.some(({ reason }) => reason === 'AllCopied');
}

function isPopulated(): boolean {
  return images().length === 2 && scene.server.objects.list(persistentVolumeType).length === 1;
}

function declareOnGone(): void {
  const metadata = { namespace: systemNamespace };
  scene.create(
    diskImages,
    { name: 'd1', ...metadata, finalizers: [finalizers.disk] },
    { size: '1Gi', nodeName: 'gone' },
  );
  const spec = { diskImageName: 'd1', nodeName: 'gone' };
  scene.create(diskSnapshots, { name: 's1', ...metadata, finalizers: [finalizers.snapshot] }, spec);
}

function deleteOnGone(): void {
  declareOnGone();
  scene.remove(diskImages, 'd1');
  scene.remove(diskSnapshots, 's1');
}

function declareUnclaimed(): void {
  const given = { [annotations.csiName]: 'pvc-1', [annotations.claim]: 'shop/data' };
  const metadata = { name: 'pvc-1', namespace: systemNamespace, annotations: given };
  scene.create(diskImages, metadata, { size: '1Gi', nodeName: 'a', source: { type: 'blank' } });
}

const longAgo = '2026-01-01T00:00:00Z';

interface Reported {
  conditions?: { type: string; reason: string }[];
}

function listOrphans(): void {
  const orphan = (kind: string, id: string, more: object) => ({
    kind,
    id,
    name: id,
    size: '1Gi',
    createdAt: longAgo,
    foundAt: longAgo,
    ...more,
  });
  a.reportPool({
    orphans: [orphan('disk', 'pvc-1', {}), orphan('disk', 'pvc-2', {}), orphan('snapshot', 's1', { disk: 'pvc-1' })],
  });
}

function reasonOf(type: typeof diskImages | typeof diskSnapshots | typeof diskPools, name: string): string | undefined {
  const status = scene.find(type, name)?.['status'] as Reported | undefined;
  return status?.conditions?.find((one) => one.type === 'Ready')?.reason;
}

const isMade = (name: string) => reasonOf(diskImages, name) === 'Made';

function isForgotten(): boolean {
  return reasonOf(diskImages, 'd1') === 'NodeGone' && reasonOf(diskSnapshots, 's1') === 'NodeGone';
}

/** Dies once, after that step. */
function dyingAfter(step: ControllerStep) {
  let hasDied = false;
  const checkpoint = (at: ControllerStep) => {
    if (at !== step || hasDied) return;
    hasDied = true;
    throw new Error(`killed after ${step}`);
  };
  return { checkpoint, hasDied: () => hasDied };
}

/** Waits until it is so, however much time has to go by. */
async function untilLater(isSo: () => boolean): Promise<void> {
  await until(async () => {
    await scene.settle();
    if (isSo()) return true;
    await scene.pass(30_000);
    return false;
  });
}

const steps = listSteps(controllerSteps);

describe('a controller that dies', () => {
  it('can die at every step that it has', () => {
    expect([...Object.keys(stories), ...Object.keys(works)].sort()).toEqual([...steps].sort());
  });

  it.each(Object.keys(stories) as ControllerStep[])('after %s has another one come to the same end', async (step) => {
    const story = stories[step] ?? expect.unreachable();
    const disks = await scene.service();
    await story.before?.(disks);
    const { checkpoint, hasDied } = dyingAfter(step);
    await story.call(await scene.service(scene.caches(), checkpoint)).catch(() => {});
    expect(hasDied()).toBe(true);
    await story.call(disks);
    story.end();
  });

  it.each(Object.keys(works) as ControllerStep[])('after %s has its work done to the end', async (step) => {
    const work = works[step] ?? expect.unreachable();
    work.find();
    const { checkpoint, hasDied } = dyingAfter(step);
    const end = await scene.elect(scene.caches(), checkpoint);
    await untilLater(hasDied);
    await end();
    await scene.elect();
    await untilLater(work.isDone);
  });
});
