import { execFileSync } from 'node:child_process';
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GiB, KiB, MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import { recordImage } from '../../src/store/images.ts';
import { imageIdOf } from '../../src/store/ids.ts';
import { expectPattern, temporaryDirectory, thin, writePattern } from '../detached-pool.ts';
import { ManualClock } from '../fakes/manual-clock.ts';
import { clearBelow } from '../leaks.ts';
import { mountImage } from '../loop-filesystem.ts';
import { fetchSnapshot, fetchUnnamed, type TransferNode } from '../transfer-node.ts';
import { createDisk, expectSameContent, sentLayers, TransferScene } from '../transfer-scene.ts';

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
    await clearBelow(scene.directory);
  });

  const incoming = () => readdirSync(path.join(target.directory, 'incoming'));
  const allocated = (node: TransferNode, layer: string) =>
    statSync(node.pool.chainLayer(layer as never).path).blocks * 512;
  const layerOf = (snapshot: string) => source.pool.snapshot(snapshot).layer;

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

  it('brings an image, with its digest', async () => {
    await chain(1);
    const digest = `sha256:${'0'.repeat(64)}`;
    const facts = { id: imageIdOf('golden'), name: 'golden', filesystem: null, digest };
    await recordImage(source.pool, facts, layerOf('s0'));
    const content = await fetchUnnamed(source.peer, target, { kind: 'image', id: 'golden' });
    expect(content).toEqual({ layer: layerOf('s0'), name: 'golden', sizeBytes: GiB, filesystem: null, digest });
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

  it('removes again what nothing names in the end', async () => {
    await chain(2);
    await fetchUnnamed(source.peer, target, { kind: 'snapshot', id: 's1' });
    expect([...target.pool.layers.keys()]).toEqual([]);
    await expectSound(target);
  });

  it('says that a snapshot is not there', async () => {
    const fetched = fetchSnapshot(source.peer, target, 'none');
    await expect(fetched).rejects.toMatchObject({ code: 'snapshot-not-found' });
    const image = fetchUnnamed(source.peer, target, { kind: 'image', id: 'none' });
    await expect(image).rejects.toMatchObject({ code: 'image-not-found' });
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

  it('goes on for the others when one of them does not want it any more', async () => {
    await chain(1);
    source.sendLimit.perSecond = MiB;
    const controllers = Array.from({ length: 3 }, () => new AbortController());
    const fetched = controllers.map(({ signal }) => fetchSnapshot(source.peer, target, 's0', { signal }));
    await expect.poll(() => sentLayers(source)).toHaveLength(1);
    controllers[0]?.abort(new Error('not wanted'));
    await expect(fetched[0]).rejects.toThrow('not wanted');
    await Promise.all(fetched.slice(1));
    expect(sentLayers(source)).toHaveLength(1);
  });

  it('ends a transfer that nobody wants any more, and goes on with what has come of it', async () => {
    await createDisk(source, 'a', GiB);
    writePattern(source, 'a', 1, 0, 150 * MiB);
    await source.disks.createSnapshot({ name: 's', diskId: 'a' });
    source.sendLimit.perSecond = 200 * MiB;
    const controller = new AbortController();
    const abort = ({ receivedBytes }: { receivedBytes: number }) => {
      if (receivedBytes > 100 * MiB) controller.abort(new Error('not wanted'));
    };
    const fetched = fetchSnapshot(source.peer, target, 's', { signal: controller.signal, onProgress: abort });
    await expect(fetched).rejects.toThrow('not wanted');
    const seen: number[] = [];
    const onProgress = ({ receivedBytes }: { receivedBytes: number }) => seen.push(receivedBytes);
    const { layer } = await fetchSnapshot(source.peer, target, 's', { onProgress });
    expectSameContent(source, target, layer);
    expect(seen[0]).toBeGreaterThan(60 * MiB);
  });

  it('tells how far it is', async () => {
    await chain(3);
    const seen: { receivedBytes: number; totalBytes: number }[] = [];
    await fetchSnapshot(source.peer, target, 's2', { onProgress: (progress) => seen.push(progress) });
    const bytes = seen.map(({ receivedBytes }) => receivedBytes);
    expect(bytes).toEqual(bytes.toSorted((a, b) => a - b));
    const last = seen.at(-1);
    expect(last?.receivedBytes).toBe(last?.totalBytes);
    expect(last?.totalBytes).toBeGreaterThan(3 * MiB);
  });

  describe('while the source is compacted', () => {
    beforeEach(async () => {
      await chain(4);
      source.sendLimit.perSecond = MiB;
    });

    /** Deletes snapshots once the first layer is being sent, and lets what they leave be merged. */
    async function compactMeanwhile(fetched: Promise<unknown>, snapshots: string[], sent: number): Promise<void> {
      await expect.poll(() => sentLayers(source), { timeout: 20_000 }).toHaveLength(sent);
      // Merging takes longer than a layer does where the machine is busy.
      const { promise: merged, resolve: goOn } = Promise.withResolvers<void>();
      const take = vi.spyOn(source.sendLimit, 'take').mockReturnValue(merged);
      try {
        for (const id of snapshots) await source.disks.deleteSnapshot(id);
        await source.compactor.settled();
      } finally {
        take.mockRestore();
        source.sendLimit.perSecond = Number.POSITIVE_INFINITY;
        goOn();
      }
      await fetched;
    }

    function expectAll(node: TransferNode): void {
      const { layer } = node.pool.snapshot('s3');
      for (const n of [0, 1, 2, 3]) expectPattern(node, layer, n + 1, n * 4 * MiB, MiB);
      expectSameContent(source, target, layer);
    }

    it('asks anew for layers that were merged before they were sent', async () => {
      const [bottom, merged, upper, top] = ['s0', 's1', 's2', 's3'].map(layerOf);
      await compactMeanwhile(fetchSnapshot(source.peer, target, 's3'), ['s1'], 1);
      expect(source.pool.layers.has(merged as never)).toBe(false);
      expect(sentLayers(source)).toEqual([bottom, upper, top]);
      expectAll(target);
      await expectSound(target);
    });

    it('does not merge away the layer that is being sent, but afterwards', async () => {
      const [bottom] = ['s0'].map(layerOf);
      await compactMeanwhile(fetchSnapshot(source.peer, target, 's3'), ['s0'], 1);
      expect(sentLayers(source)[0]).toBe(bottom);
      expectAll(target);
      await expect.poll(() => source.pool.layers.has(bottom as never)).toBe(false);
      await expectSound(target);
    });

    it('sends a file to its end that was replaced meanwhile, with the parent that belongs to it', async () => {
      const [bottom, second] = ['s0', 's1'].map(layerOf);
      await compactMeanwhile(fetchSnapshot(source.peer, target, 's3'), ['s0'], 2);
      expect(source.pool.layer(second as never).parent).toBe(null);
      expect(target.pool.layer(second as never).parent).toBe(bottom);
      expectAll(target);
      await expectSound(target);
    });

    it('does not send on from the new file what it began with the old one', async () => {
      const controller = new AbortController();
      const first = fetchSnapshot(source.peer, target, 's3', { signal: controller.signal });
      first.catch(() => {});
      const aborted = async () => {
        controller.abort(new Error('not wanted'));
        await expect(first).rejects.toThrow('not wanted');
      };
      await expect.poll(() => sentLayers(source), { timeout: 20_000 }).toHaveLength(2);
      await aborted();
      await compactMeanwhile(Promise.resolve(), ['s0'], 2);
      await fetchSnapshot(source.peer, target, 's3');
      expect(target.pool.layer(layerOf('s1')).parent).toBe(null);
      expectAll(target);
      await expectSound(target);
      expect(incoming()).toHaveLength(1);
      expect(await target.receiver.removeAbandoned(new Date(0))).toEqual([]);
      expect(await target.receiver.removeAbandoned(new Date(Date.now() + 1000))).toHaveLength(1);
      expect(incoming()).toEqual([]);
    });
  });

  it('takes a raw layer of a pool that shares extents', async () => {
    mountImage(scene.directory, 'xfs', 'xfs', 512 * MiB);
    const sharing = await scene.addNode('xfs');
    await createDisk(sharing, 'a', 64 * MiB, { format: 'raw', preallocation: 'falloc' });
    writePattern(sharing, 'a', 5, 0, 8 * MiB);
    await sharing.disks.createSnapshot({ name: 's', diskId: 'a' });
    const { layer } = await fetchSnapshot(sharing.peer, target, 's');
    expectSameContent(sharing, target, layer);
  });

  it('holds its rate, which several transfers share, and each receiver holds its own', async () => {
    const rateClock = new ManualClock();
    const limited = await scene.addNode('limited', { rateClock });
    const receiver = await scene.addNode('receiver', { rateClock });
    for (const name of ['a', 'b']) {
      await createDisk(limited, name, 64 * MiB);
      writePattern(limited, name, 1, 0, 8 * MiB);
      await limited.disks.createSnapshot({ name: `of-${name}`, diskId: name });
    }
    /** How long it takes where all but waiting takes no time. */
    const timed = async (work: Promise<unknown>): Promise<number> => {
      const start = rateClock.elapsedMs();
      const over = new AbortController();
      const ended = work.finally(() => over.abort());
      ended.catch(() => {});
      while (!over.signal.aborted) {
        rateClock.advance(rateClock.pending[0] ?? 0);
        await setImmediate();
      }
      await ended;
      return (rateClock.elapsedMs() - start) / 1000;
    };
    limited.sendLimit.perSecond = 8 * MiB;
    const together = await timed(
      Promise.all(['of-a', 'of-b'].map((id) => fetchUnnamed(limited.peer, receiver, { kind: 'snapshot', id }))),
    );
    expect(together).toBeGreaterThan(2 * 0.8);
    expect(together).toBeLessThan(2 * 1.2);
    limited.sendLimit.perSecond = Number.POSITIVE_INFINITY;
    receiver.receiveLimit.perSecond = 4 * MiB;
    const received = await timed(fetchUnnamed(limited.peer, receiver, { kind: 'snapshot', id: 'of-a' }));
    expect(received).toBeGreaterThan(2 * 0.8);
    expect(received).toBeLessThan(2 * 1.2);
  });

  describe('into a small pool', () => {
    let directory: string;
    let small: TransferNode;
    beforeEach(async () => {
      directory = mountImage(scene.directory, 'small', 'ext4', 64 * MiB);
      small = await scene.addNode('small');
      await createDisk(source, 'a', GiB);
      writePattern(source, 'a', 1, 0, 24 * MiB);
      await source.disks.createSnapshot({ name: 's0', diskId: 'a' });
    });
    const incomingOf = () => readdirSync(path.join(directory, 'incoming'));

    it('does not begin with what has no room', async () => {
      writePattern(source, 'a', 1, 64 * MiB, 100 * MiB);
      await source.disks.createSnapshot({ name: 's1', diskId: 'a' });
      await expect(fetchSnapshot(source.peer, small, 's1')).rejects.toMatchObject({ code: 'pool-full' });
      expect(sentLayers(source)).toEqual([layerOf('s0')]);
      expect(incomingOf()).toEqual([]);
      expect(small.pool.layers.size).toBe(0);
    });

    it('gives the room back when it becomes full in the middle, and comes to its end when there is room again', async () => {
      source.sendLimit.perSecond = 16 * MiB;
      const filler = path.join(directory, 'filler');
      const fetched = fetchSnapshot(source.peer, small, 's0', {
        onProgress: ({ receivedBytes }) => {
          if (receivedBytes > 4 * MiB && readdirSync(directory).every((name) => name !== 'filler'))
            execFileSync('sh', ['-c', `head -c 1G /dev/zero > ${filler} 2>/dev/null || true`]);
        },
      });
      await expect(fetched).rejects.toMatchObject({ code: 'pool-full' });
      expect(incomingOf()).toEqual([]);
      rmSync(filler);
      const { layer } = await fetchSnapshot(source.peer, small, 's0');
      expectSameContent(source, small, layer);
    });
  });
});
