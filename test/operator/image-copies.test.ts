import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import type { DiskImage } from '../cluster/kube.ts';
import { claim } from '../cluster/objects.ts';
import { Ledger } from '../ledger.ts';
import { GivingNodes } from './giving-nodes.ts';
import { stories } from './stories.ts';

const contentBytes = 160 * MiB;

stories('copies of a golden image', (scene) => {
  const nodes = new GivingNodes(scene);
  const ledger = new Ledger();
  const image = async () => scene().kube.diskImages.get(scene().user.at('golden'));
  const copies = async () => {
    const all = await scene().kube.diskImages.list({ namespace: scene().user.namespace });
    return all.filter(({ metadata }) => metadata.name.startsWith('golden-copy-'));
  };
  const copyNodes = async () => (await copies()).map(({ spec }) => spec.nodeName).sort();
  const wish = async (spec: object) => scene().kube.diskImages.mergePatch(scene().user.at('golden'), { spec });
  const copied = ({ status }: DiskImage) => status.conditions.find(({ type }) => type === 'Copied');
  /** Waits until the image says that of its copies. */
  const untilCopied = async (reason: string, more: (image: DiskImage) => boolean = () => true): Promise<DiskImage> => {
    const isSo = async () => {
      const latest = await image();
      return latest && copied(latest)?.reason === reason && more(latest) ? reason : JSON.stringify(latest?.status);
    };
    await expect.poll(isSo, { timeout: 60_000, interval: 200 }).toBe(reason);
    return (await image()) as DiskImage;
  };
  const leftOn = (name: string) => nodes.get(name).leftovers();

  beforeAll(async () => {
    for (const name of ['giver', 'taker'] as const) await nodes.add(name, 2 * GiB);
    const { user, kubelet } = scene();
    const { volume } = await user.claimWithPod({ name: 'source', size: '512Mi', node: 'giver' });
    ledger.write(path.join(await kubelet('giver').mount(volume), 'file'), contentBytes);
    await kubelet('giver').unmount(volume);
    await user.snapshot('taken', 'source');
    const source = { type: 'volumeSnapshot', volumeSnapshot: { name: 'taken' } };
    await user.declareDisk('golden', { nodeName: 'giver', source });
    await user.diskWith('golden', 'Ready');
    await user.remove('pods', 'source');
    await user.remove('snapshots', 'taken');
    await user.remove('claims', 'source');
    await user.gone('snapshots', 'taken');
  }, 300_000);

  afterAll(() => nodes.removeAll());

  it('come to the nodes that it names, by one transfer, and it says so', async () => {
    const before = nodes.sent();
    await wish({ nodes: ['taker', 'giver'] });
    const golden = await untilCopied('AllCopied');
    expect(golden.status.copies).toMatchObject([{ nodeName: 'taker', ready: true }]);
    expect(golden.status.copies[0]?.allocated).toBeGreaterThan(contentBytes);
    const [copy] = await copies();
    expect(copy?.metadata.ownerReferences).toMatchObject([{ name: 'golden', uid: golden.metadata.uid }]);
    expect(copy?.status).toMatchObject({ nodeName: 'taker', virtualSize: golden.status.virtualSize });
    expect(nodes.sent() - before).toBe(golden.status.chainDepth);
  }, 240_000);

  it('serve ten volumes on their node without a further transfer, also while the first node is away', async () => {
    const { kube, user, kubelet } = scene();
    const before = nodes.sent();
    await nodes.get('giver').plugin.stop();
    const heirs = Array.from({ length: 10 }, (_, index) => `heir-${index}`);
    for (const name of heirs) {
      const object = claim(user.namespace, { name, size: '512Mi' });
      const dataSourceRef = { apiGroup: 'lamina.storage', kind: 'DiskImage', name: 'golden' };
      await kube.claims.create({ ...object, ...{ spec: { ...object.spec, dataSourceRef } } });
      await user.pod({ name, claims: [name], node: 'taker' });
    }
    const bound = await Promise.all(heirs.map((name) => user.bound(name)));
    expect(bound.map(({ node }) => node)).toEqual(heirs.map(() => 'taker'));
    const volume = bound[3]?.volume;
    if (!volume) throw new Error('there is no volume');
    expect(ledger.differences(await kubelet('taker').mount(volume), ['file'])).toEqual([]);
    await kubelet('taker').unmount(volume);
    expect(nodes.sent()).toBe(before);
    await nodes.get('giver').start();
    await user.remove('pods', ...heirs);
    await user.remove('claims', ...heirs);
    for (const name of heirs) await user.gone('claims', name);
  }, 240_000);

  it('follow the labels of nodes', async () => {
    const { kube } = scene();
    const label = (name: string, runs: string | null) =>
      kube.nodes.mergePatch({ name }, { metadata: { labels: { 'example.org/runs': runs } } });
    await wish({ nodes: null, nodeSelector: { 'example.org/runs': 'databases' } });
    await untilCopied('AllCopied', ({ status }) => status.copies.length === 0);
    await expect.poll(() => leftOn('taker'), { timeout: 60_000 }).toEqual([]);
    await label('taker', 'databases');
    await untilCopied('AllCopied', ({ status }) => status.copies.length === 1);
    await nodes.add('later', 2 * GiB);
    await label('later', 'databases');
    await untilCopied('AllCopied', ({ status }) => status.copies.length === 2);
    expect(await copyNodes()).toEqual(['later', 'taker']);
    await label('taker', null);
    await expect.poll(copyNodes, { timeout: 60_000 }).toEqual(['later']);
  }, 240_000);

  it('are written about by nobody when all is as it is wanted', async () => {
    const { kube } = scene();
    const changes = async () => {
      const before = await kube.writes();
      await delay(10_000);
      return [...(await kube.writes())].filter(([what, count]) => count !== (before.get(what) ?? 0));
    };
    await expect.poll(changes, { timeout: 60_000 }).toEqual([]);
  }, 90_000);

  it('say where there is no room, no such pool, and no such node', async () => {
    // With hardly any room.
    await nodes.add('small', 192 * MiB);
    await wish({ nodes: ['small'], nodeSelector: { 'example.org/runs': 'databases' } });
    const full = await untilCopied('PoolFull');
    expect(full.status.copies).toMatchObject([
      { nodeName: 'later', ready: true },
      { nodeName: 'small', ready: false },
    ]);
    expect(copied(full)?.message).toContain('1 of 2 nodes have a copy. small: ');
    await wish({ nodes: ['nowhere'] });
    await untilCopied('NodeNotFound');
    await expect.poll(copyNodes, { timeout: 60_000 }).toEqual(['later']);
    await expect.poll(() => leftOn('small'), { timeout: 60_000 }).toEqual([]);
  }, 240_000);

  it('go with their node', async () => {
    await wish({ nodes: ['later'], nodeSelector: null });
    await untilCopied('AllCopied');
    await nodes.remove('later');
    const golden = await untilCopied('NodeNotFound');
    expect(golden.status.copies).toMatchObject([{ nodeName: 'later', ready: false }]);
    await expect.poll(copyNodes, { timeout: 60_000 }).toEqual([]);
  }, 240_000);

  it('stay as images of their own where whoever deletes the image wants that', async () => {
    const { kube, user } = scene();
    const source = { type: 'diskImage', diskImage: { name: 'golden' } };
    await user.declareDisk('kept', { sealed: true, nodeName: 'giver', nodes: ['taker'], source });
    await user.diskWith('kept', 'Copied');
    await kube.diskImages.removeIfPresent(user.at('kept'), { propagationPolicy: 'Orphan' });
    await user.gone('diskImages', 'kept');
    const all = await kube.diskImages.list({ namespace: user.namespace });
    const left = all.filter(({ metadata }) => metadata.name.startsWith('kept-copy-'));
    expect(left.map(({ metadata, spec }) => [metadata.ownerReferences, spec.nodeName])).toEqual([[[], 'taker']]);
    const names = left.map(({ metadata }) => metadata.name);
    for (const name of names) await user.diskWith(name, 'Ready');
    await user.remove('diskImages', ...names);
    for (const name of names) await user.gone('diskImages', name);
  }, 240_000);

  it('go with the image', async () => {
    const { user } = scene();
    await wish({ nodes: ['taker'] });
    await untilCopied('AllCopied');
    await user.remove('diskImages', 'golden');
    await user.gone('diskImages', 'golden');
    await expect.poll(copies, { timeout: 60_000 }).toEqual([]);
    for (const name of ['giver', 'taker'] as const)
      await expect.poll(() => leftOn(name), { timeout: 60_000 }).toEqual([]);
    await nodes.removeAll();
  }, 240_000);
});
