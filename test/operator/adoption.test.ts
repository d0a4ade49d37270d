import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { diskPoolName } from '../../src/api/names.ts';
import type { KubeObject } from '../../src/kube/objects.ts';
import type { ResourceClient } from '../../src/kube/client/resource-client.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { handleOf } from '../cluster/kubelet.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';

stories('what pools hold', (scene) => {
  /** As whoever loses an etcd, or deletes finalizers by hand. */
  async function forget(resource: ResourceClient<KubeObject>): Promise<void> {
    for (const { metadata } of await resource.list()) {
      await resource.mergePatch(metadata, { metadata: { finalizers: null } });
      await resource.removeIfPresent(metadata);
    }
    // Kubernetes itself keeps volumes until no claim refers to them.
    await expect.poll(() => resource.list(), { timeout: 60_000 }).toEqual([]);
  }

  async function stopRoles(): Promise<void> {
    const { controller, nodes } = scene().cluster;
    await Promise.all([controller, ...nodes.map(({ plugin }) => plugin)].map((daemon) => daemon.stop()));
  }

  it('is declared again when all of its objects are lost, and volumes and snapshots are used as before', async () => {
    const { cluster, kube, user, kubelet } = scene();
    const ledger = new Ledger();
    const volumes = [];
    for (const { name: node } of cluster.nodes) {
      const { volume } = await user.claimWithPod({ name: `on-${node}`, node });
      ledger.write(path.join(await kubelet(node).mount(volume), node), MiB);
      volumes.push({ node, volume });
    }
    await user.snapshot('taken', 'on-worker-a');
    await user.declareDisk('declared', { size: '80Mi', nodeName: 'worker-b', clusterSize: '64Ki' });
    const declared = await user.diskWith('declared', 'Ready');
    const before = await kube.diskImages.list();
    await stopRoles();
    for (const resource of [kube.diskImages, kube.diskSnapshots, kube.diskPools]) await forget(resource);
    await cluster.startRoles();

    const names = (images: readonly KubeObject[]) =>
      images.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).toSorted();
    await expect.poll(async () => names(await kube.diskImages.list()), { timeout: 40_000 }).toEqual(names(before));
    const again = await user.diskWith('declared', 'Ready');
    expect(again.spec).toEqual(declared.spec);
    expect(again.status.diskId).toBe(declared.status.diskId);

    // In use all the time, and as it was.
    for (const { node, volume } of volumes) {
      expect(ledger.differences(await kubelet(node).mount(volume), [node])).toEqual([]);
    }
    const dataSource = { kind: 'VolumeSnapshot', name: 'taken' } as const;
    const restored = await user.claimWithPod({ name: 'restored', node: 'worker-a', dataSource });
    expect(ledger.differences(await kubelet('worker-a').mount(restored.volume), ['worker-a'])).toEqual([]);
    for (const { node, volume } of [...volumes, { node: 'worker-a', volume: restored.volume }]) {
      await kubelet(node).unmount(volume);
    }
    const claims = ['on-worker-a', 'on-worker-b', 'restored'];
    await user.remove('pods', ...claims);
    await user.remove('claims', ...claims);
    await user.remove('snapshots', 'taken');
    await user.remove('diskImages', 'declared');
  });

  it('is kept when an object is taken away by force while everything runs, and declared again', async () => {
    const { cluster, kube, user, kubelet } = scene();
    const { volume, node } = await user.claimWithPod({ name: 'forced' });
    const ledger = new Ledger();
    ledger.write(path.join(await kubelet(node).mount(volume), 'file'), MiB);
    await kubelet(node).unmount(volume);
    const ref = { namespace: systemNamespace, name: handleOf(volume) };
    const uid = (await kube.diskImages.get(ref))?.metadata.uid;
    await kube.diskImages.mergePatch(ref, { metadata: { finalizers: null } });
    await kube.diskImages.removeIfPresent(ref);
    const isAnother = async () => {
      const image = await kube.diskImages.get(ref);
      return image !== undefined && image.metadata.uid !== uid;
    };
    await expect.poll(isAnother, { timeout: 60_000 }).toBe(true);
    expect(ledger.differences(await kubelet(node).mount(volume), ['file'])).toEqual([]);
    await kubelet(node).unmount(volume);
    await user.remove('pods', 'forced');
    await user.remove('claims', 'forced');
    // The next one stops those who delete its disk.
    await expect.poll(() => cluster.leftovers(), { timeout: 60_000, interval: 200 }).toEqual([]);
  });

  it('is kept in a cluster that knows nothing of it, for longer than a volume that nobody asked for', async () => {
    const { cluster, kube, user } = scene();
    const { volume } = await user.claimWithPod({ name: 'unknown', node: 'worker-a' });
    await stopRoles();
    for (const sidecar of cluster.sidecars) await sidecar.kill9();
    await user.remove('pods', 'unknown');
    for (const resource of [kube.claims, kube.volumes, kube.diskImages, kube.diskPools]) await forget(resource);
    await cluster.startRoles();
    const record = path.join(cluster.workerA.pool(), 'disks', `${handleOf(volume)}.json`);
    const pool = async () => kube.diskPools.get({ name: diskPoolName('default', 'worker-a') });
    await expect.poll(async () => (await pool())?.status.disks, { timeout: 60_000 }).toBe(1);
    // The grace time for volumes of which nobody knows is 20 s here; whoever sweeps does so each few seconds.
    const start = performance.now();
    await expect.poll(() => performance.now() - start > 40_000 || !existsSync(record), { timeout: 60_000 }).toBe(true);
    expect(existsSync(record)).toBe(true);
    // A person decides: declared again, it can be deleted as any other.
    const ref = { namespace: systemNamespace, name: handleOf(volume) };
    await kube.diskImages
      .create({ ...{ spec: { size: '64Mi', nodeName: 'worker-a' } }, metadata: ref })
      .catch(() => {});
    await expect.poll(async () => (await kube.diskImages.get(ref))?.status.diskId, { timeout: 60_000 }).toBe(ref.name);
    await kube.diskImages.removeIfPresent(ref);
  }, 300_000);
});
