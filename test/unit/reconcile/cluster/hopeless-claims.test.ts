import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { persistentVolumeClaimType } from '../../../../src/kube/kinds/core-kinds.ts';
import { storageClassType } from '../../../../src/kube/kinds/storage-kinds.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a', thin: '100Gi', thick: '50Gi' });
  await scene.elect();
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

function claimOf(parameters: object, { size = '1Gi', ...of }: { size?: string; [field: string]: unknown } = {}) {
  scene.server.objects.create(
    { type: storageClassType, namespace: '' },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'class' },
      provisioner: 'csi.lamina.storage',
      volumeBindingMode: 'WaitForFirstConsumer',
      parameters,
      ...of,
    },
  );
  scene.create(
    persistentVolumeClaimType,
    { name: 'data', namespace: 'shop' },
    { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: size } }, storageClassName: 'class' },
  );
}
const events = () => scene.eventsOf('data');

// Otherwise people see only that their pod is not scheduled, as no node has "enough free storage".
describe('a claim that waits for its first pod, in vain, says why:', () => {
  it.each([
    ['a parameter that is not known', { fomat: 'raw' }, {}, "not known: 'fomat'; known are format,"],
    ['a parameter in another case', { Pool: 'default' }, {}, "not known: 'Pool'"],
    ['a value that is not known', { format: 'RAW' }, {}, "format is 'RAW': "],
    ['a pool that no node has', { pool: 'nvme' }, {}, "no node has a pool 'nvme'; there are default."],
    ['more than any node has', {}, { size: '4Ti' }, "of 4Ti in its pool 'default': a: there is room for 100 GiB."],
    ['more than any volume has', {}, { size: '16Ei' }, "No node can have a volume of 16Ei in its pool 'default'"],
    ['more than can be preallocated', { preallocation: 'full' }, { size: '60Gi' }, 'there is room for 50 GiB'],
  ])('%s', async (_, parameters, more, words) => {
    claimOf(parameters, more);
    await until(() => events().length === 1);
    expect(events()[0]).toMatch(/^Warning ProvisioningFailed: /);
    expect(events()[0]).toContain(words);
  });

  it('until that is mended', async () => {
    claimOf({ pool: 'nvme' });
    await until(() => events().length === 1);
    scene.addNode({ name: 'b', pool: 'nvme' });
    await scene.pass(120_000);
    const before = scene.server.requests.filter(({ path }) => path.includes('events')).length;
    await scene.pass(120_000);
    expect(scene.server.requests.filter(({ path }) => path.includes('events'))).toHaveLength(before);
  });

  it.each([
    ['nothing is wrong', {}, {}],
    ['its class has keys for csi-provisioner itself', { 'csi.storage.k8s.io/provisioner-secret-name': 'x' }, {}],
    ['it is another driver’s', { fomat: 'raw' }, { provisioner: 'other.example.org' }],
    ['csi-provisioner is asked without a pod', { fomat: 'raw' }, { volumeBindingMode: 'Immediate' }],
  ])('but not where %s', async (_, parameters, more) => {
    claimOf(parameters, more);
    await scene.settle();
    await scene.pass(120_000);
    expect(events()).toEqual([]);
  });

  it('but not once a node was chosen, as csi-provisioner tells what it is answered then', async () => {
    a.setSpace('1Mi', '1Mi');
    claimOf({});
    await until(() => events().length === 1);
    const annotations = { 'volume.kubernetes.io/selected-node': 'a' };
    scene.patch(persistentVolumeClaimType, 'data', { metadata: { annotations } }, { namespace: 'shop' });
    await scene.pass(120_000);
    const before = scene.server.requests.filter(({ path }) => path.includes('events')).length;
    await scene.pass(300_000);
    expect(scene.server.requests.filter(({ path }) => path.includes('events'))).toHaveLength(before);
  });
});
