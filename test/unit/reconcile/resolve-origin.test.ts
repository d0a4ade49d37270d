import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages, diskSnapshots } from '../../../src/api/objects.ts';
import {
  persistentVolumeClaimType,
  persistentVolumeType,
  volumeSnapshotContentType,
} from '../../../src/kube/core-kinds.ts';
import { volumeSnapshotType } from '../../../src/kube/storage-kinds.ts';
import type { Json } from '../../fakes/api-patch.ts';
import { ClusterScene, systemNamespace, until } from '../../fakes/cluster-scene.ts';

let scene: ClusterScene;

beforeEach(async () => {
  scene = await ClusterScene.start();
  scene.addNode({ name: 'a' });
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
  it('is told what its volume is in the pools', async () => {
    volume(claim().metadata.uid);
    image(ofClaim);
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
