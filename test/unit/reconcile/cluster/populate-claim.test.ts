import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages } from '../../../../src/api/objects.ts';
import { persistentVolumeClaimType, persistentVolumeType } from '../../../../src/kube/kinds/core-kinds.ts';
import { storageClassType, volumeAttributesClassType } from '../../../../src/kube/kinds/storage-kinds.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, systemNamespace, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a' });
  scene.addNode({ name: 'b' });
  createClass('fast', {});
  createClass('foreign', { provisioner: 'other.example.org' });
  scene.server.objects.create(
    { type: volumeAttributesClassType, namespace: '' },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'VolumeAttributesClass',
      metadata: { name: 'foreign' },
      driverName: 'other.example.org',
      parameters: { liveSnapshots: 'true' },
    },
  );
  createClass('late', { volumeBindingMode: 'WaitForFirstConsumer' });
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

function createClass(name: string, more: object) {
  scene.server.objects.create(
    { type: storageClassType, namespace: '' },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name },
      provisioner: 'csi.lamina.storage',
      reclaimPolicy: 'Delete',
      ...more,
    },
  );
}

const golden = (more: object = {}, name = 'debian') =>
  scene.create(
    diskImages,
    { name, namespace: 'media' },
    {
      size: '2Gi',
      nodeName: 'a',
      sealed: true,
      source: { type: 'http', http: { url: 'https://example.org/d' } },
      ...more,
    },
  );

const claim = (spec: object = {}, annotations: object = {}, name = 'root') =>
  scene.create(
    persistentVolumeClaimType,
    { name, namespace: 'media', annotations },
    {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '10Gi' } },
      storageClassName: 'fast',
      dataSourceRef: { apiGroup: 'lamina.storage', kind: 'DiskImage', name: 'debian' },
      ...spec,
    },
  );
const nameOf = ({ metadata }: { metadata: { uid?: string } }) => `pvc-${metadata.uid}`;
const volumeOf = async (object: ReturnType<typeof claim>) => {
  await until(() => scene.find(persistentVolumeType, nameOf(object)) !== undefined);
  return scene.find(persistentVolumeType, nameOf(object)) as unknown as { spec: object; metadata: object };
};

describe('a claim that names a DiskImage', () => {
  it('gets a volume that starts from it, where it is', async () => {
    golden();
    const object = claim();
    await scene.elect();
    const volume = await volumeOf(object);
    expect(volume.metadata).toMatchObject({
      annotations: { 'pv.kubernetes.io/provisioned-by': 'csi.lamina.storage' },
      finalizers: ['external-provisioner.volume.kubernetes.io/finalizer'],
    });
    expect(volume.spec).toMatchObject({
      capacity: { storage: '10Gi' },
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Filesystem',
      persistentVolumeReclaimPolicy: 'Delete',
      storageClassName: 'fast',
      claimRef: { namespace: 'media', name: 'root', uid: object.metadata.uid },
      csi: { driver: 'csi.lamina.storage', volumeHandle: nameOf(object), fsType: 'ext4' },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ values: ['a'] }] }] } },
    });
    expect(scene.find(diskImages, nameOf(object), systemNamespace)).toMatchObject({
      metadata: { annotations: { 'lamina.storage/claim': 'media/root' } },
      spec: {
        size: '10Gi',
        nodeName: 'a',
        source: { type: 'diskImage', diskImage: { namespace: 'media', name: 'debian' } },
      },
    });
    await until(() => scene.eventsOf('root').some((event) => event.includes('ProvisioningSucceeded')));
  });

  it('gets one where its class allows it, though the image is elsewhere', async () => {
    const expressions = [{ key: 'topology.lamina.storage/node', values: ['b', 'c'] }];
    createClass('near', { allowedTopologies: [{ matchLabelExpressions: expressions }] });
    createClass('nowhere', {
      allowedTopologies: [{ matchLabelExpressions: [{ key: 'topology.kubernetes.io/zone', values: ['x'] }] }],
    });
    golden();
    const object = claim({ storageClassName: 'near' });
    await scene.elect();
    await volumeOf(object);
    expect(scene.find(diskImages, nameOf(object), systemNamespace)).toMatchObject({ spec: { nodeName: 'b' } });
    claim({ storageClassName: 'nowhere' }, {}, 'lost');
    await until(() => scene.eventsOf('lost').some((event) => event.startsWith('Warning ProvisioningFailed')));
  });

  it('starts from an image whose name is longer than ids of CSI', async () => {
    const name = 'd'.repeat(120);
    golden({}, name);
    const object = claim({ dataSourceRef: { apiGroup: 'lamina.storage', kind: 'DiskImage', name } });
    await scene.elect();
    await volumeOf(object);
  });

  it('waits for the image, and says so', async () => {
    const object = claim();
    await scene.elect();
    await until(() => scene.eventsOf('root').length === 1);
    expect(scene.eventsOf('root')[0]).toBe('Normal WaitingForDiskImage: There is no DiskImage media/debian yet.');
    golden();
    await volumeOf(object);
  });

  it('is served where there is a copy, when the node of the image is gone', async () => {
    golden({ nodes: ['b'] });
    await scene.elect();
    await until(() => JSON.stringify(scene.find(diskImages, 'debian', 'media')).includes('AllCopied'));
    a.vanish();
    await until(() => JSON.stringify(scene.find(diskImages, 'debian', 'media')).includes('NodeGone'));
    const object = claim();
    await volumeOf(object);
    expect(scene.find(diskImages, nameOf(object), systemNamespace)).toMatchObject({ spec: { nodeName: 'b' } });
  });

  it('waits for a pod where its class says so', async () => {
    golden();
    const object = claim({ storageClassName: 'late' });
    await scene.elect();
    await scene.settle();
    expect(scene.find(persistentVolumeType, nameOf(object))).toBeUndefined();
    const annotations = { 'volume.kubernetes.io/selected-node': 'b' };
    scene.patch(persistentVolumeClaimType, 'root', { metadata: { annotations } }, { namespace: 'media' });
    await volumeOf(object);
  });

  it.each([
    ['of another driver’s class', { storageClassName: 'foreign' }],
    ['that is bound', { volumeName: 'pvc-x' }],
    ['of another populator', { dataSourceRef: { apiGroup: 'example.org', kind: 'DiskImage', name: 'debian' } }],
  ])('%s is left alone', async (_, spec) => {
    golden();
    const object = claim(spec);
    await scene.elect();
    await scene.settle();
    expect(scene.find(persistentVolumeType, nameOf(object))).toBeUndefined();
    expect(scene.find(diskImages, nameOf(object), systemNamespace)).toBeUndefined();
    expect(scene.eventsOf('root')).toEqual([]);
  });

  it.each([
    [
      'of another namespace',
      { dataSourceRef: { apiGroup: 'lamina.storage', kind: 'DiskImage', name: 'debian', namespace: 'other' } },
      {},
      'that of the claim',
    ],
    ['that is not sealed', {}, { sealed: false, source: { type: 'blank' } }, 'is not sealed'],
    ['that is bigger than may be', { resources: { limits: { storage: '1Gi' } } }, {}, '2147483648'],
    ['on several nodes at once', { accessModes: ['ReadWriteMany'] }, {}, 'MULTI_NODE_MULTI_WRITER'],
    ['by a class that there is not', { storageClassName: 'gone' }, {}, 'create it'],
    ['with attributes of another driver', { volumeAttributesClassName: 'foreign' }, {}, 'is for other.example.org'],
  ])('%s is refused with a sentence, and makes nothing', async (_, claimSpec, imageSpec, words) => {
    golden(imageSpec);
    const object = claim(claimSpec);
    await scene.elect();
    await until(() => scene.eventsOf('root').length === 1);
    expect(scene.eventsOf('root')[0]).toContain(words);
    expect(scene.eventsOf('root')[0]).toContain('Warning ProvisioningFailed');
    expect(scene.find(persistentVolumeType, nameOf(object))).toBeUndefined();
    await until(() => scene.find(diskImages, nameOf(object), systemNamespace) === undefined);
  });

  it('whose node does not make the volume says so, is not asked for all the time, and goes on as soon as it does', async () => {
    golden();
    await scene.elect();
    await scene.settle();
    a.reply = () => 'nothing';
    const object = claim();
    await until(() => scene.clock.pending.includes(50_000));
    await scene.settle();
    scene.clock.advance(50_000);
    await until(() => scene.eventsOf('root').length === 1);
    expect(scene.eventsOf('root')[0]).toMatch(
      /^Normal Provisioning: node a has not begun to make the volume pvc-.*: is its node plugin running\?$/,
    );
    await scene.settle();
    const before = scene.server.requests.length;
    scene.clock.advance(10_000);
    await scene.settle();
    expect(scene.server.requests.length - before).toBeLessThan(3);
    a.reply = () => 'done';
    a.wake();
    await volumeOf(object);
  });

  it('says what the API server refuses, such as more than a quota allows', async () => {
    golden();
    const isVolume = ({ method, path }: { method: string; path: string }) =>
      method === 'POST' && path.endsWith('/persistentvolumes');
    scene.server.inject({ fault: { kind: 'status', status: 403, reason: 'Forbidden' }, match: isVolume });
    const object = claim();
    await scene.elect();
    await until(() => scene.eventsOf('root').length === 1);
    expect(scene.eventsOf('root')[0]).toMatch(/^Warning ProvisioningFailed: POST .*persistentvolumes: .* answered 403/);
    await scene.settle();
    scene.clock.advance(15_000);
    await volumeOf(object);
  });

  it('is given back to the scheduler where the node has no room', async () => {
    golden();
    await scene.elect();
    await scene.settle();
    a.setSpace('1Gi', '1Gi');
    claim({ storageClassName: 'late' }, { 'volume.kubernetes.io/selected-node': 'a' });
    await until(() => {
      const object = scene.find(persistentVolumeClaimType, 'root', 'media');
      return object !== undefined && Object.keys(object.metadata.annotations ?? {}).length === 0;
    });
    expect(scene.eventsOf('root')[0]).toContain('ProvisioningFailed');
  });
});
