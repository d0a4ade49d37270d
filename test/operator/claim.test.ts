import { readdirSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { annotations, finalizers } from '../../src/api/names.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { handleOf } from '../cluster/kubelet.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';

stories('a PersistentVolumeClaim', (scene) => {
  it('that waits for its first consumer gets its volume on the node that the pod was scheduled to', async () => {
    const { cluster, user, kubelet } = scene();
    for (const { name } of cluster.nodes) {
      const { node, volume } = await user.claimWithPod({ name: `first-${name}`, node: name });
      expect([node, await user.scheduled(`first-${name}`)]).toEqual([name, name]);
      const ledger = new Ledger();
      ledger.write(path.join(await kubelet(name).mount(volume), 'file'), 3 * MiB);
      await kubelet(name).unmount(volume);
      expect(ledger.differences(await kubelet(name).mount(volume), ['file'])).toEqual([]);
      await kubelet(name).unmount(volume);
      await user.remove('pods', `first-${name}`);
      await user.remove('claims', `first-${name}`);
    }
  });

  it('that does not wait gets its volume at once, and a pod follows it', async () => {
    const { user } = scene();
    await user.claim({ name: 'immediate', storageClassName: 'immediate' });
    const { node } = await user.bound('immediate');
    await user.pod({ name: 'immediate', claims: ['immediate'] });
    expect(await user.scheduled('immediate')).toBe(node);
    await user.remove('pods', 'immediate');
    await user.remove('claims', 'immediate');
  });

  it('is named by its DiskImage, which says all that is to be known of the disk', async () => {
    const { cluster, kube, user } = scene();
    const { claim, volume, node } = await user.claimWithPod({ name: 'known', size: '100Mi', node: 'worker-b' });
    const image = await kube.diskImages.get({ namespace: systemNamespace, name: handleOf(volume) });
    expect(image).toMatchObject({
      metadata: {
        annotations: {
          [annotations.claim]: `${claim.metadata.namespace}/known`,
          [annotations.csiName]: `pvc-${claim.metadata.uid}`,
        },
        finalizers: [finalizers.disk],
      },
      spec: { size: 100 * MiB, format: 'qcow2', preallocation: 'off', pool: 'default', nodeName: node },
      status: { diskId: handleOf(volume), nodeName: node, virtualSize: 100 * MiB, format: 'qcow2', chainDepth: 1 },
    });
    expect(image?.status.conditions.map(({ type, status }) => `${type}=${status}`).toSorted()).toEqual([
      'Healthy=True',
      'Placed=True',
      'Ready=True',
      'Sized=True',
    ]);
    expect(readdirSync(path.join(cluster.workerB.pool(), 'disks'))).toContain(`${handleOf(volume)}.json`);
    await user.remove('pods', 'known');
    await user.remove('claims', 'known');
  });

  it('goes with its volume, its DiskImage and its file when it is deleted', async () => {
    const { cluster, user } = scene();
    const { volume } = await user.claimWithPod({ name: 'short', node: 'worker-a' });
    expect(await cluster.leftovers()).toContain(`DiskImage ${systemNamespace}/${handleOf(volume)}`);
    await user.remove('pods', 'short');
    await user.remove('claims', 'short');
    await expect.poll(() => cluster.leftovers(), { timeout: 30_000, interval: 200 }).toEqual([]);
  });

  it('of a pool that only one node has is bound there', async () => {
    const { user } = scene();
    const { node } = await user.claimWithPod({ name: 'second', storageClassName: 'second' });
    expect([node, await user.scheduled('second')]).toEqual(['worker-b', 'worker-b']);
    await user.remove('pods', 'second');
    await user.remove('claims', 'second');
  });
});
