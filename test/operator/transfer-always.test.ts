import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { driverName, parameterNames } from '../../src/api/names.ts';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import * as kinds from '../cluster/kinds.ts';
import { claim } from '../cluster/objects.ts';
import { Ledger } from '../ledger.ts';
import { stories } from './stories.ts';
import { GivingNodes } from './giving-nodes.ts';

const classes = ['always', 'never'] as const;
const contentBytes = 64 * MiB;

stories('the parameter transfer of a StorageClass', (scene) => {
  const nodes = new GivingNodes(scene);
  const ledger = new Ledger();

  beforeAll(async () => {
    for (const name of ['from', 'to']) await nodes.add(name, GiB);
    const { kube, user, kubelet } = scene();
    for (const transfer of classes) {
      const parameters = { [parameterNames.transfer]: transfer };
      const more = { provisioner: driverName, parameters, volumeBindingMode: 'WaitForFirstConsumer' };
      await kube.of(kinds.storageClasses).create({ metadata: { name: `transfer-${transfer}` }, ...more });
    }
    const { volume } = await user.claimWithPod({ name: 'source', size: '256Mi', node: 'from' });
    ledger.write(path.join(await kubelet('from').mount(volume), 'file'), contentBytes);
    await kubelet('from').unmount(volume);
    await user.snapshot('taken', 'source');
    const source = { type: 'volumeSnapshot', volumeSnapshot: { name: 'taken' } };
    await user.declareDisk('golden', { nodeName: 'from', source });
    await user.diskWith('golden', 'Ready');
  }, 300_000);

  afterAll(async () => {
    const { kube } = scene();
    for (const transfer of classes)
      await kube.of(kinds.storageClasses).removeIfPresent({ name: `transfer-${transfer}` });
    await nodes.removeAll();
  });

  /** A claim of a class, and a pod on the other node than that of its source; waits for the volume. */
  async function start(name: string, transfer: (typeof classes)[number], dataSourceRef: object) {
    const { kube, user } = scene();
    const object = claim(user.namespace, { name, size: '256Mi' });
    const spec = { ...object.spec, storageClassName: `transfer-${transfer}`, dataSourceRef };
    await kube.claims.create({ ...object, ...{ spec } });
    await user.pod({ name, claims: [name], node: 'to' });
    return user.bound(name);
  }

  async function remove(name: string): Promise<void> {
    const { user } = scene();
    await user.remove('pods', name);
    await user.remove('claims', name);
    await user.gone('claims', name);
  }

  const taken = { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: 'taken' };
  const golden = { apiGroup: 'lamina.storage', kind: 'DiskImage', name: 'golden' };

  it('(always) brings a snapshot to the node of the pod, once for all restores that are there at a time', async () => {
    const { kubelet } = scene();
    const before = nodes.sent();
    const [first, second] = await Promise.all(['first', 'second'].map((name) => start(name, 'always', taken)));
    if (!first || !second) throw new Error('nothing was restored');
    expect([first.node, second.node]).toEqual(['to', 'to']);
    for (const { volume } of [first, second]) {
      expect(ledger.differences(await kubelet('to').mount(volume), ['file'])).toEqual([]);
      await kubelet('to').unmount(volume);
    }
    expect(nodes.sent() - before).toBe(1);
    await remove('first');
    await start('third', 'always', taken);
    expect(nodes.sent() - before).toBe(1);

    // What was brought goes with the last that uses it, and is brought again for the next.
    await remove('second');
    await remove('third');
    await expect.poll(() => nodes.get('to').leftovers(), { timeout: 60_000 }).toEqual([]);
    await start('fourth', 'always', taken);
    expect(nodes.sent() - before).toBe(2);
    await remove('fourth');
  }, 180_000);

  it('(never) makes a volume of a DiskImage where that is, and the pod says why it waits', async () => {
    const { user } = scene();
    const before = nodes.sent();
    expect((await start('stays', 'never', golden)).node).toBe('from');
    await expect.poll(() => user.eventsOf('stays'), { timeout: 30_000 }).toMatch(/node affinity/);
    expect(nodes.sent()).toBe(before);
    await remove('stays');
  }, 120_000);

  it('leaves nothing on either node when all of it is deleted', async () => {
    const { user } = scene();
    await user.remove('pods', 'source');
    await user.remove('diskImages', 'golden');
    await user.remove('snapshots', 'taken');
    await user.remove('claims', 'source');
    for (const name of ['from', 'to']) {
      await expect.poll(() => nodes.get(name).leftovers(), { timeout: 60_000 }).toEqual([]);
    }
    await nodes.removeAll();
  }, 120_000);
});
