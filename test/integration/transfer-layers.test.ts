import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GiB, KiB, MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import { expectPattern, removeDirectory, temporaryDirectory, thin, writePattern } from '../detached-pool.ts';
import { createDisk, expectSameContent, sentLayers, TransferScene } from '../transfer-scene.ts';
import { fetchSnapshot, type TransferNode } from '../transfer-node.ts';

describe('layers move between nodes', () => {
  let scene: TransferScene;
  let source: TransferNode;
  let target: TransferNode;
  beforeEach(async () => {
    scene = await TransferScene.create(temporaryDirectory());
    source = await scene.addNode('source');
    target = await scene.addNode('target');
  });
  afterEach(async () => {
    await scene.close();
    removeDirectory(scene.directory);
  });

  const incoming = () => readdirSync(path.join(target.directory, 'incoming'));
  const allocated = (node: TransferNode, layer: string) =>
    statSync(node.pool.chainLayer(layer as never).path).blocks * 512;

  async function expectSound(node: TransferNode): Promise<void> {
    expect(await checkPool(node.directory, () => {})).toMatchObject({ problems: [], leftovers: [] });
  }

  /** A disk with `depth` snapshots s0, s1, …, each with a mebibyte of its own. */
  async function chain(depth: number, options = {}): Promise<void> {
    await createDisk(source, 'a', GiB, options);
    for (let n = 0; n < depth; n++) {
      writePattern(source, 'a', n + 1, n * 4 * MiB, MiB);
      await source.disks.createSnapshot({ name: `s${n}`, diskId: 'a' });
    }
  }

  it('restores a snapshot of another node, and clones start from it there', async () => {
    await chain(3);
    const snapshot = await fetchSnapshot(source.peer, target, 's2');
    expectSameContent(source, target, snapshot.layer);
    const clone = await target.disks.create({
      name: 'clone',
      size: { requiredBytes: 0, limitBytes: 0 },
      options: thin,
      source: { kind: 'snapshot', id: 's2' },
    });
    for (const n of [0, 1, 2]) expectPattern(target, clone.head, n + 1, n * 4 * MiB, MiB);
    expect(incoming()).toEqual([]);
    await expectSound(target);
  });

  it('fetches only what lacks', async () => {
    await chain(4);
    await fetchSnapshot(source.peer, target, 's1');
    expect(sentLayers(source)).toHaveLength(2);
    await fetchSnapshot(source.peer, target, 's3');
    expect(sentLayers(source)).toHaveLength(4);
    await fetchSnapshot(source.peer, target, 's2');
    expect(sentLayers(source)).toHaveLength(4);
    for (const id of ['s1', 's2', 's3']) expectSameContent(source, target, target.pool.snapshot(id).layer);
  });

  it('leaves out the holes of a sparse raw file, and keeps them as holes', async () => {
    await createDisk(source, 'a', 64 * GiB, { format: 'raw' });
    // Holes of less than the least that is left out, too.
    for (const offset of [0, 8 * KiB, 40 * KiB, 10 * GiB, 64 * GiB - 4 * KiB])
      writePattern(source, 'a', 7, offset, 4 * KiB);
    await source.disks.createSnapshot({ name: 's', diskId: 'a' });
    const { layer } = await fetchSnapshot(source.peer, target, 's');
    expectSameContent(source, target, layer);
    expect(allocated(target, layer)).toBeLessThanOrEqual(allocated(source, layer));
  });

  it('lets ten that need one layer share its transfer', async () => {
    await chain(2);
    source.sendLimit.perSecond = 4 * MiB;
    const layers = await Promise.all(Array.from({ length: 10 }, () => fetchSnapshot(source.peer, target, 's1')));
    expect(new Set(layers.map(({ layer }) => layer)).size).toBe(1);
    expect(sentLayers(source)).toHaveLength(2);
    await expectSound(target);
  });
});
