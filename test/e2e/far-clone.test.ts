import { expect, it } from 'vitest';
import { driverName } from '../../src/api/names.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { claim, pod } from './objects.ts';
import { stories } from './stories.ts';

const storageClassName = 'story-moving';

stories('a clone on another node', (scene) => {
  it('holds what its source did, which goes on meanwhile', { timeout: 300_000 }, async () => {
    const { kubectl, cluster } = scene();
    const [here, there] = cluster.workers;
    await kubectl.apply({
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: storageClassName },
      provisioner: driverName,
      volumeBindingMode: 'WaitForFirstConsumer',
      parameters: { transfer: 'always' },
    });
    try {
      await kubectl.apply(claim({ name: 'source' }), pod({ name: 'source', claim: 'source', node: here }));
      await kubectl.untilReady('source');
      await kubectl.inPod('source', 'echo before >/data/file; sync');
      const dataSource = { kind: 'PersistentVolumeClaim', name: 'source' } as const;
      await kubectl.apply(claim({ name: 'clone', storageClassName, dataSource }));
      await kubectl.apply(pod({ name: 'clone', claim: 'clone', node: there }));
      await kubectl.untilReady('clone');
      await kubectl.inPod('source', 'echo after >/data/file; sync');
      expect((await kubectl.inPod('clone', 'cat /data/file')).trim()).toBe('before');
      const snapshots = () => kubectl.in(systemNamespace).list('disksnapshots');
      await expect.poll(snapshots, { timeout: 60_000 }).toEqual([]);
      await kubectl.remove('pod', 'source', 'clone');
      await kubectl.remove('pvc', 'source', 'clone');
    } finally {
      await kubectl.remove('storageclass', storageClassName);
    }
  });
});
