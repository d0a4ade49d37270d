import { readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { checkPool, repairPool } from '../../src/store/check.ts';
import { discardIncoming, ensureIncoming, listIncoming } from '../../src/store/incoming.ts';
import { installLayer, type ReceivedLayer } from '../../src/store/layers.ts';
import type { DiskSource, LayerRecord } from '../../src/store/records.ts';
import { formatTree, readTree } from '../../src/store/tree.ts';
import { type DetachedPool, expectPattern, openDetachedPool, thin, writePattern } from '../detached-pool.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { makeDonor, receive } from '../image-story.ts';

const noProgress = () => {};

describe('images', () => {
  let opened: DetachedPool;
  let others: string[];
  beforeEach(async () => {
    opened = await openDetachedPool(temporaryDirectory());
    others = [];
  });
  afterEach(async () => {
    await opened.compactor.settled();
    await opened.release();
    for (const directory of [opened.directory, ...others]) removeDirectory(directory);
  });

  const restart = async () => {
    await opened.compactor.settled();
    await opened.release();
    opened = await openDetachedPool(opened.directory);
  };
  const otherDirectory = () => {
    const directory = temporaryDirectory();
    others.push(directory);
    return directory;
  };
  const create = (name: string, source: DiskSource | null = null, requiredBytes = 0) =>
    opened.disks.create({ name, size: { requiredBytes, limitBytes: 0 }, options: thin, source });
  const headOf = (disk: string) => opened.pool.chainLayer(opened.pool.disk(disk).head);
  const written = async (name: string, byte: number) => {
    await create(name);
    writePattern(opened, name, byte, 0, MiB);
  };

  it('keep what their disk held, and disks of any size start from them', async () => {
    await written('a', 1);
    const image = await opened.images.create({ name: 'golden', source: { kind: 'disk', id: 'a' } });
    expect(image).toMatchObject({ id: 'golden', sizeBytes: opened.pool.disk('a').sizeBytes, digest: null });
    writePattern(opened, 'a', 2, 0, MiB);
    const disk = await create('b', { kind: 'image', id: 'golden' }, 2 * image.sizeBytes);
    expect(disk).toMatchObject({ sizeBytes: 2 * image.sizeBytes, source: { kind: 'image', id: 'golden' } });
    expectPattern(opened, disk.head, 1, 0, MiB);
    expectPattern(opened, headOf('a').id, 2, 0, MiB);
    expect(await create('b', { kind: 'image', id: 'golden' })).toEqual(disk);
    await expect(create('b')).rejects.toMatchObject({ code: 'name-taken' });
  });

  it('share their layer with the snapshot or image that they are made of', async () => {
    await written('a', 1);
    const snapshot = await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    const first = await opened.images.create({ name: 'one', source: { kind: 'snapshot', id: 's' } });
    const second = await opened.images.create({ name: 'two', source: { kind: 'image', id: 'one' } });
    expect([first.layer, second.layer]).toEqual([snapshot.layer, snapshot.layer]);
    await opened.disks.deleteSnapshot('s');
    await opened.images.delete('one');
    await opened.disks.delete('a');
    expectPattern(opened, second.layer, 1, 0, MiB);
    await opened.images.delete('two');
    expect(opened.pool.layers.size).toBe(0);
  });

  it('can be deleted while disks live on their layers, and deleted again', async () => {
    await written('a', 1);
    await opened.images.create({ name: 'golden', source: { kind: 'disk', id: 'a' } });
    await create('b', { kind: 'image', id: 'golden' });
    await opened.images.delete('golden');
    await opened.images.delete('golden');
    await opened.disks.delete('a');
    expectPattern(opened, headOf('b').id, 1, 0, MiB);
    await expect(create('c', { kind: 'image', id: 'golden' })).rejects.toMatchObject({ code: 'image-not-found' });
  });

  it('are found again under their name, by callers at the same time too', async () => {
    await written('a', 1);
    const source = { kind: 'disk', id: 'a' } as const;
    const made = await Promise.all(Array.from({ length: 5 }, () => opened.images.create({ name: 'golden', source })));
    expect(new Set(made.map(({ layer }) => layer)).size).toBe(1);
    await restart();
    expect(await opened.images.create({ name: 'golden', source })).toEqual(made[0]);
    expect([...opened.pool.snapshots.values()]).toEqual([]);
  });

  it('are not merged away, and keep their chain where what lies below has lost its names', async () => {
    await written('a', 1);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    writePattern(opened, 'a', 2, MiB, MiB);
    const image = await opened.images.create({ name: 'golden', source: { kind: 'disk', id: 'a' } });
    await opened.disks.delete('a');
    await opened.disks.deleteSnapshot('s');
    await opened.compactor.settled();
    expect(opened.pool.chain(image.layer)).toHaveLength(1);
    expectPattern(opened, image.layer, 1, 0, MiB);
    expectPattern(opened, image.layer, 2, MiB, MiB);
  });

  it('are named in the tree, counted by the check, and their damaged records set aside', async () => {
    await written('a', 1);
    const { layer } = await opened.images.create({ name: 'golden', source: { kind: 'disk', id: 'a' } });
    await opened.disks.delete('a');
    expect(formatTree(await readTree(opened.directory))).toContain('image golden');
    expect(await checkPool(opened.directory, noProgress)).toMatchObject({ images: 1, problems: [], leftovers: [] });
    await opened.release();
    const file = opened.pool.layout.image('golden' as never);
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.slice(0, 40));
    await expect(openDetachedPool(opened.directory)).rejects.toMatchObject({ code: 'record-corrupt' });
    expect((await repairPool(opened.directory, silentLogger, noProgress)).repaired).toHaveLength(1);
    opened = await openDetachedPool(opened.directory);
    expect(opened.pool.images.size).toBe(0);
    expect(opened.pool.layers.has(layer)).toBe(true);
  });

  it('stop the start where one names a layer that is not there', async () => {
    await written('a', 1);
    await opened.images.create({ name: 'golden', source: { kind: 'disk', id: 'a' } });
    await opened.release();
    const file = opened.pool.layout.image('golden' as never);
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace(/"layer": ".*"/, '"layer": "lnowhere"'));
    await expect(openDetachedPool(opened.directory)).rejects.toMatchObject({
      code: 'graph-corrupt',
      message: expect.stringContaining(file),
    });
    writeFileSync(file, text);
    await restart();
  });

  it('open a pool that was made before there were images', async () => {
    await written('a', 1);
    for (const name of ['images', 'incoming']) rmdirSync(path.join(opened.directory, name));
    expect((await readTree(opened.directory)).problems).toEqual([]);
    await restart();
    const image = await opened.images.create({ name: 'golden', source: { kind: 'disk', id: 'a' } });
    expectPattern(opened, image.layer, 1, 0, MiB);
  });

  it('leave unfinished downloads alone at the start, until they are discarded', async () => {
    const directory = await ensureIncoming(opened.pool, 'image-golden');
    writeFileSync(path.join(directory, 'download'), 'half');
    await restart();
    expect(await listIncoming(opened.pool)).toEqual(['image-golden']);
    expect(await checkPool(opened.directory, noProgress)).toMatchObject({ leftovers: [], incoming: ['image-golden'] });
    await discardIncoming(opened.pool, 'image-golden');
    await discardIncoming(opened.pool, 'image-golden');
    expect(await listIncoming(opened.pool)).toEqual([]);
  });

  describe('whose layers come from another pool', () => {
    it('read the same here, and are installed once', async () => {
      const donor = otherDirectory();
      await makeDonor(donor);
      await receive(opened, donor, 'golden');
      await receive(opened, donor, 'again');
      await restart();
      expect(opened.pool.layers.size).toBe(2);
      const { layer } = opened.pool.image('golden');
      expectPattern(opened, layer, 1, 0, MiB);
      expectPattern(opened, layer, 2, MiB, MiB);
    });

    it.each<[string, Partial<ReceivedLayer>, RegExp]>([
      ['another parent than its header names', { parent: null }, /the backing file \.\.\//],
      ['another size', { virtualSizeBytes: MiB }, /a size of \d+ bytes/],
      ['another format', { format: 'raw', parent: null }, /bytes as a raw file/],
    ])('are refused with %s', async (_, change, message) => {
      await written('a', 1);
      await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
      writePattern(opened, 'a', 2, 0, MiB);
      const { layer } = await opened.disks.createSnapshot({ name: 's2', diskId: 'a' });
      const original = opened.pool.layer(layer);
      const claimed = { ...received(original), id: 'lforeign' as never, ...change };
      const build = async (file: string) => writeFileSync(file, readFileSync(opened.pool.chainLayer(layer).path));
      const installed = installLayer(opened.pool, claimed, build);
      await expect(installed).rejects.toMatchObject({ code: 'layer-corrupt', message: expect.stringMatching(message) });
      await restart();
      expect(await checkPool(opened.directory, noProgress)).toMatchObject({ problems: [], leftovers: [] });
    });

    it('are refused where the parent is not here, or is still written to', async () => {
      await written('a', 1);
      const head = opened.pool.layer(opened.pool.disk('a').head);
      const build = async () => {
        throw new Error('nothing is to be built');
      };
      for (const parent of ['lnowhere', head.id]) {
        const claimed = { ...received(head), id: 'lforeign', parent } as ReceivedLayer;
        await expect(installLayer(opened.pool, claimed, build)).rejects.toMatchObject({ code: 'graph-corrupt' });
      }
    });
  });
});

const received = ({ id, parent, format, virtualSizeBytes, createdAt }: LayerRecord): ReceivedLayer => ({
  id,
  parent,
  format,
  virtualSizeBytes,
  createdAt,
});
