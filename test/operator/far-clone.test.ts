import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { driverName } from '../../src/api/names.ts';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import type { Bound } from '../cluster/user.ts';
import * as kinds from '../cluster/kinds.ts';
import { claim } from '../cluster/objects.ts';
import { Ledger } from '../ledger.ts';
import { GivingNodes } from './giving-nodes.ts';
import { stories } from './stories.ts';

const className = 'moving';

stories('a copy of a volume on another node', (scene) => {
  const nodes = new GivingNodes(scene);
  const ledger = new Ledger();
  let source: Bound;

  /** A claim of the class that has everything brought to where the pod is, and a pod on that node. */
  async function copy(
    name: string,
    dataSource: Parameters<typeof claim>[1]['dataSource'],
    node: string,
  ): Promise<Bound> {
    const { kube, user } = scene();
    const object = claim(user.namespace, { name, ...(dataSource ? { dataSource } : {}) });
    await kube.claims.create({ ...object, ...{ spec: { ...object.spec, storageClassName: className } } });
    await user.pod({ name, claims: [name], node });
    return user.bound(name);
  }

  beforeAll(async () => {
    const { kube, user, kubelet } = scene();
    for (const name of ['giver', 'taker']) await nodes.add(name, GiB);
    await kube.of(kinds.storageClasses).create({
      ...{ provisioner: driverName, volumeBindingMode: 'WaitForFirstConsumer', parameters: { transfer: 'always' } },
      metadata: { name: className },
    });
    source = await user.claimWithPod({ name: 'source', node: 'giver' });
    ledger.write(path.join(await kubelet('giver').mount(source.volume), 'before'), MiB);
  }, 300_000);

  afterAll(async () => {
    await nodes.removeAll();
    await scene().kube.of(kinds.storageClasses).removeIfPresent({ name: className });
  });

  const contentOf = async (bound: Bound, present: string[], absent: string[]) => {
    const { kubelet } = scene();
    const differences = ledger.differences(await kubelet(bound.node).mount(bound.volume), present, absent);
    await kubelet(bound.node).unmount(bound.volume);
    return differences;
  };
  const snapshots = async () => (await scene().kube.diskSnapshots.list()).map(({ metadata }) => metadata.name);

  it('is a clone of what it holds then, in use as it is, and leaves no snapshot', async () => {
    const { user, kubelet } = scene();
    const before = nodes.sent();
    const clone = await copy('clone', { kind: 'PersistentVolumeClaim', name: 'source' }, 'taker');
    expect([clone.node, await user.scheduled('clone')]).toEqual(['taker', 'taker']);
    await expect.poll(snapshots, { timeout: 30_000 }).toEqual([]);
    ledger.write(path.join(await kubelet('giver').mount(source.volume), 'after'), MiB);
    expect(await contentOf(clone, ['before'], ['after'])).toEqual([]);
    expect(nodes.sent()).toBeGreaterThan(before);
  }, 90_000);

  it('is restored of a snapshot', async () => {
    const { user } = scene();
    await user.snapshot('taken', 'source');
    const restored = await copy('restored', { kind: 'VolumeSnapshot', name: 'taken' }, 'taker');
    expect(restored.node).toBe('taker');
    expect(await contentOf(restored, ['before', 'after'], [])).toEqual([]);
    await user.remove('snapshots', 'taken');
    await user.gone('snapshots', 'taken');
  }, 90_000);

  it('is a golden image of its claim, which is declared there', async () => {
    const { user } = scene();
    const of = { type: 'persistentVolumeClaim', persistentVolumeClaim: { name: 'source' } };
    await user.declareDisk('golden', { nodeName: 'taker', source: of });
    const golden = await user.diskWith('golden', 'Ready');
    expect(golden.status).toMatchObject({ nodeName: 'taker', virtualSize: 64 * MiB });
    await expect.poll(snapshots, { timeout: 30_000 }).toEqual([]);
    await user.remove('diskImages', 'golden');
    await user.gone('diskImages', 'golden');
  }, 90_000);

  it('that nobody waits for any more leaves nothing, its snapshot included', async () => {
    const { user, kubelet } = scene();
    await nodes.get('taker').plugin.stop();
    const of = { type: 'diskImage', diskImage: { name: 'plain' } };
    await user.declareDisk('plain', { size: '64Mi', nodeName: 'giver' });
    await user.diskWith('plain', 'Ready');
    await user.declareDisk('unwanted', { size: '64Mi', nodeName: 'taker', source: of });
    await expect.poll(snapshots, { timeout: 30_000 }).toHaveLength(1);
    await user.remove('diskImages', 'unwanted', 'plain');
    await expect.poll(snapshots, { timeout: 30_000 }).toEqual([]);
    await nodes.get('taker').start();
    await kubelet('giver').unmount(source.volume);
    await user.remove('pods', 'source', 'clone', 'restored');
    await user.remove('claims', 'source', 'clone', 'restored');
    for (const name of ['source', 'clone', 'restored']) await user.gone('claims', name);
    for (const name of ['unwanted', 'plain']) await user.gone('diskImages', name);
    for (const name of ['giver', 'taker'])
      await expect.poll(() => nodes.get(name).leftovers(), { timeout: 60_000 }).toEqual([]);
    await nodes.removeAll();
  }, 120_000);
});
