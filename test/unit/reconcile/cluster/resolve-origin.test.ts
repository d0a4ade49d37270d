import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages, diskSnapshots } from '../../../../src/api/objects.ts';
import {
  persistentVolumeClaimType,
  persistentVolumeType,
  volumeSnapshotContentType,
} from '../../../../src/kube/kinds/core-kinds.ts';
import { volumeSnapshotType } from '../../../../src/kube/kinds/storage-kinds.ts';
import type { Json } from '../../../fakes/api-patch.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, systemNamespace, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a' });
  scene.addNode({ name: 'silent' }).silence();
  scene.create(diskImages, { name: 'pvc-1', namespace: systemNamespace }, { size: '1Gi', nodeName: 'a' });
  await until(() => statusOf('pvc-1', systemNamespace)['diskId'] !== undefined);
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const namespace = 'media';
const statusOf = (name: string, of = namespace) =>
  (scene.find(diskImages, name, of) as unknown as { status?: Record<string, Json> }).status ?? {};
const messageOf = (name: string) =>
  (statusOf(name)['conditions'] as { type: string; message: string }[] | undefined)?.find(
    ({ type }) => type === 'Ready',
  )?.message ?? '';
/** Of a node that does not act, as the fake ones make everything. */
const image = (source: Json) =>
  scene.create(diskImages, { name: 'golden', namespace }, { nodeName: 'silent', sealed: true, source });
const ofClaim: Json = { type: 'persistentVolumeClaim', persistentVolumeClaim: { name: 'data' } };
const ofSnapshot: Json = { type: 'volumeSnapshot', volumeSnapshot: { name: 'before' } };
const claim = () => scene.create(persistentVolumeClaimType, { name: 'data', namespace }, { volumeName: 'pv-1' });
const volume = (uid: string | undefined, driver = 'csi.lamina.storage') =>
  scene.create(
    persistentVolumeType,
    { name: 'pv-1' },
    { claimRef: { namespace, name: 'data', uid: uid ?? '' }, csi: { driver, volumeHandle: 'pvc-1' } },
  );

describe('a DiskImage of a claim', () => {
  it('is told what its volume is in the pool of its node', async () => {
    volume(claim().metadata.uid);
    a.silence();
    scene.create(diskImages, { name: 'golden', namespace }, { nodeName: 'a', sealed: true, source: ofClaim });
    await scene.elect();
    await until(() => statusOf('golden')['origin'] !== undefined);
    expect(statusOf('golden')['origin']).toEqual({ kind: 'disk', id: 'pvc-1', nodeName: 'a', pool: 'default' });
  });

  it('never gets the volume that an earlier claim of that name left behind', async () => {
    volume('another');
    claim();
    image(ofClaim);
    await scene.elect();
    await until(() => messageOf('golden') !== '');
    expect(messageOf('golden')).toContain('has no volume yet');
    await scene.pass(60_000);
    expect(statusOf('golden')['origin']).toBeUndefined();
  });

  it('says what is missing, and goes on when it is there', async () => {
    image(ofClaim);
    await scene.elect();
    await until(() => messageOf('golden') !== '');
    expect(messageOf('golden')).toContain('There is no PersistentVolumeClaim media/data');
    volume(claim().metadata.uid);
    await until(() => statusOf('golden')['origin'] !== undefined);
  });

  it('of another driver says so', async () => {
    volume(claim().metadata.uid, 'other.example.org');
    image(ofClaim);
    await scene.elect();
    await until(() => messageOf('golden').includes('another driver'));
  });
});

describe('a DiskImage of a VolumeSnapshot', () => {
  const content = (uid: string | undefined) =>
    scene.server.objects.create(
      { type: volumeSnapshotContentType, namespace: '' },
      {
        apiVersion: 'snapshot.storage.k8s.io/v1',
        kind: 'VolumeSnapshotContent',
        metadata: { name: 'content-1' },
        spec: {
          driver: 'csi.lamina.storage',
          source: { snapshotHandle: 'snapshot-1' },
          volumeSnapshotRef: { namespace, name: 'before', uid },
        },
      },
    );
  const snapshot = () => {
    const object = scene.create(volumeSnapshotType, { name: 'before', namespace }, {});
    scene.patch(
      volumeSnapshotType,
      'before',
      { status: { boundVolumeSnapshotContentName: 'content-1' } },
      { namespace, subresource: 'status' },
    );
    return object;
  };
  beforeEach(async () => {
    scene.create(
      diskSnapshots,
      { name: 'snapshot-1', namespace: systemNamespace },
      { diskImageName: 'pvc-1', nodeName: 'a' },
    );
    await until(() => scene.find(diskSnapshots, 'snapshot-1')?.['status'] !== undefined);
  });

  it('is told what it is in the pools', async () => {
    content(snapshot().metadata.uid);
    image(ofSnapshot);
    await scene.elect();
    await until(() => statusOf('golden')['origin'] !== undefined);
    expect(statusOf('golden')['origin']).toMatchObject({ kind: 'snapshot', nodeName: 'a' });
  });

  it('says that VolumeSnapshots may not be read, where Lamina was installed without them', async () => {
    const match = ({ path }: { path: string }) => path.includes('/volumesnapshots/');
    scene.server.inject({ fault: { kind: 'status', status: 403, reason: 'Forbidden' }, match, times: 100 });
    content(snapshot().metadata.uid);
    image(ofSnapshot);
    await scene.elect();
    await until(() => messageOf('golden') !== '');
    expect(messageOf('golden')).toMatch(/^VolumeSnapshots cannot be read, .* snapshotter.enabled .* answered 403/);
    scene.server.heal();
    await scene.settle();
    scene.clock.advance(15_000);
    await until(() => statusOf('golden')['origin'] !== undefined);
  });

  it('never gets what an earlier one of that name left behind', async () => {
    snapshot();
    content('another');
    image(ofSnapshot);
    await scene.elect();
    await until(() => messageOf('golden') !== '');
    expect(messageOf('golden')).toContain('is not taken yet');
    expect(statusOf('golden')['origin']).toBeUndefined();
  });
});

describe('a DiskImage of a disk on another node', () => {
  const clone = (source: Json) =>
    scene.create(
      diskImages,
      { name: 'clone', namespace: systemNamespace },
      { nodeName: 'silent', size: '1Gi', source },
    );
  const ofDisk: Json = { type: 'diskImage', diskImage: { name: 'pvc-1' } };
  const taken = () => scene.server.objects.list(diskSnapshots);
  const isMade = () => scene.patch(diskImages, 'clone', { status: { diskId: 'clone' } }, { subresource: 'status' });

  it('starts from a snapshot that is taken for it there, and goes when it is made', async () => {
    clone(ofDisk);
    await scene.elect();
    await until(() => statusOf('clone', systemNamespace)['origin'] !== undefined);
    const [snapshot] = taken();
    expect(snapshot?.metadata.name).toMatch(/^pvc-1-for-[0-9a-f]{10}$/);
    expect(snapshot).toMatchObject({
      metadata: { annotations: { 'lamina.storage/taken-for': `${systemNamespace}/clone` } },
      spec: { diskImageName: 'pvc-1', nodeName: 'a' },
    });
    expect(statusOf('clone', systemNamespace)['origin']).toMatchObject({
      kind: 'snapshot',
      id: snapshot?.metadata.name,
      nodeName: 'a',
    });
    await scene.pass(60_000);
    expect(taken()).toHaveLength(1);
    isMade();
    await until(() => taken().length === 0);
  });

  it('has its snapshot go with it', async () => {
    clone(ofDisk);
    await scene.elect();
    await until(() => taken().length === 1);
    scene.remove(diskImages, 'clone');
    await until(() => taken().length === 0);
    clone(ofDisk);
    await until(() => statusOf('clone', systemNamespace)['origin'] !== undefined);
    expect(taken()).toHaveLength(1);
  });

  it('never deletes a snapshot that somebody has declared with the annotation of one', async () => {
    for (const heir of [`${systemNamespace}/gone`, 'gone', '']) {
      const metadata = { name: `mine${heir.length}`, namespace, annotations: { 'lamina.storage/taken-for': heir } };
      scene.create(diskSnapshots, metadata, { diskImageName: 'pvc-1', nodeName: 'a' });
    }
    await scene.elect();
    await scene.pass(60_000);
    expect(taken()).toHaveLength(3);
  });

  it('of a claim is told of a snapshot as well', async () => {
    volume(claim().metadata.uid);
    image(ofClaim);
    await scene.elect();
    await until(() => statusOf('golden')['origin'] !== undefined);
    expect(statusOf('golden')['origin']).toMatchObject({ kind: 'snapshot', nodeName: 'a' });
    expect(taken().map(({ metadata }) => metadata.namespace)).toEqual([systemNamespace]);
  });

  it('says why no snapshot of it can be taken', async () => {
    a.reply = (task) => (task === 'take' ? { reason: 'LiveSnapshotUnsupported', message: 'It is in use.' } : 'done');
    clone(ofDisk);
    await scene.elect();
    await until(() => scene.eventsOf('clone').some((event) => event.startsWith('Warning LiveSnapshotUnsupported')));
  });

  it('never takes a snapshot of somebody else for its own', async () => {
    clone(ofDisk);
    const end = await scene.elect();
    await until(() => taken().length === 1);
    const name = taken()[0]?.metadata.name ?? '';
    await end();
    scene.remove(diskSnapshots, name);
    await until(() => taken().length === 0);
    scene.create(diskSnapshots, { name, namespace: systemNamespace }, { diskImageName: 'other', nodeName: 'a' });
    scene.patch(diskImages, 'clone', { status: { origin: null } }, { subresource: 'status' });
    await scene.elect();
    await scene.pass(60_000);
    expect(statusOf('clone', systemNamespace)['origin']).toBeUndefined();
    expect(taken()).toHaveLength(1);
  });
});
