import { expect, it } from 'vitest';
import { diskPoolName, nodeTopologyKey } from '../../src/api/names.ts';
import { GiB } from '../../src/lib/bytes.ts';
import { parseQuantity } from '../../src/lib/quantity.ts';
import { systemNamespace } from '../cluster/objects.ts';
import { stories } from './stories.ts';

stories('CSIStorageCapacity', (scene) => {
  /** Bytes that a class has room for on a node; null where there is no object. */
  async function roomOf(storageClassName: string, node: string) {
    const all = await scene().kube.capacities.list({ namespace: systemNamespace });
    const own = all.filter(
      (object) =>
        object.storageClassName === storageClassName && object.nodeTopology?.matchLabels?.[nodeTopologyKey] === node,
    );
    expect(own.length).toBeLessThan(2);
    const [object] = own;
    if (!object) return null;
    return { capacity: bytes(object.capacity), maximum: bytes(object.maximumVolumeSize) };
  }

  async function spaceOf(pool: string, node: string) {
    const object = await scene().kube.diskPools.get({ name: diskPoolName(pool, node) });
    if (!object?.status.space) throw new Error(`the DiskPool of ${pool} on ${node} says nothing of its space`);
    return object.status.space;
  }

  it('says for each node and class what the pool of the class has room for', async () => {
    for (const { name } of scene().cluster.nodes) {
      for (const [storageClassName, promised] of [
        ['thin', 'availableThin'],
        ['raw', 'availableThick'],
      ] as const) {
        // Asked for every few seconds; and a DiskPool says it with three digits.
        const ratio = async () =>
          ((await roomOf(storageClassName, name))?.capacity ?? 0) / (await spaceOf('default', name))[promised];
        await expect.poll(ratio, { timeout: 20_000, interval: 200 }).toBeCloseTo(1, 1);
      }
    }
    // As it is computed: size of the file system times over-commit for thin disks, what is free for others.
    const { total, free, availableThin, availableThick } = await spaceOf('default', 'worker-b');
    expect([availableThin / total, availableThick / free].map(Math.round)).toEqual([20, 1]);
  });

  it('says how big one volume can be', async () => {
    const thin = await roomOf('thin', 'worker-b');
    expect(thin?.maximum).toBe(thin?.capacity);
  });

  it('says zero, or nothing, for a pool that the node does not have', async () => {
    const room = async (node: string) => (await roomOf('second', node))?.capacity ?? 0;
    await expect.poll(() => room('worker-b'), { timeout: 20_000, interval: 200 }).toBeGreaterThan(GiB);
    expect(await room('worker-a')).toBe(0);
  });

  it('follows what volumes take, and what they give back', async () => {
    const { user } = scene();
    const before = (await roomOf('thin', 'worker-a'))?.capacity ?? 0;
    await user.claimWithPod({ name: 'big', size: '10Gi', node: 'worker-a' });
    const taken = async () => before - ((await roomOf('thin', 'worker-a'))?.capacity ?? 0);
    await expect.poll(taken, { timeout: 40_000, interval: 200 }).toBeGreaterThan(9 * GiB);
    await user.remove('pods', 'big');
    await user.remove('claims', 'big');
    await expect.poll(taken, { timeout: 40_000, interval: 200 }).toBeLessThan(GiB);
  });

  it('keeps a pod from a node whose pool is too small for its volume', async () => {
    const { user } = scene();
    // More than worker-a may promise, less than worker-b may.
    const { node } = await user.claimWithPod({ name: 'huge', size: '100Gi' });
    expect(node).toBe('worker-b');
    await user.claim({ name: 'absurd', size: '4Ti' });
    await user.pod({ name: 'absurd', claims: ['absurd'] });
    await expect.poll(() => user.eventsOf('absurd'), { timeout: 30_000 }).toContain('not have enough free storage');
    // The scheduler says no more than that, and csi-provisioner is not asked.
    await expect
      .poll(() => user.eventsOf('absurd'), { timeout: 30_000 })
      .toContain("No node can have a volume of 4Ti in its pool 'default': ");
    await user.remove('pods', 'huge', 'absurd');
    await user.remove('claims', 'huge', 'absurd');
  });
});

function bytes(quantity: string | undefined): number {
  return parseQuantity(quantity ?? '') ?? Number.NaN;
}
