import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GiB, KiB, MiB } from '../../src/lib/bytes.ts';
import { assertNobodyWrites } from '../../src/engine/disks/live-disk.ts';
import { LaminaError } from '../../src/lib/errors.ts';
import { maxChainLayers } from '../../src/store/layers.ts';
import {
  anySize,
  type DetachedPool,
  expectPattern,
  openDetachedPool,
  removeDirectory,
  temporaryDirectory,
  thin,
  writePattern,
} from '../detached-pool.ts';

describe('the store', () => {
  let opened: DetachedPool;
  beforeEach(async () => {
    opened = await openDetachedPool(temporaryDirectory());
  });
  afterEach(async () => {
    await opened.compactor.settled();
    await opened.release();
    removeDirectory(opened.directory);
  });

  const create = (name: string, options = {}, requiredBytes = 0) =>
    opened.disks.create({
      name,
      size: { requiredBytes, limitBytes: 0 },
      options: { ...thin, ...options },
      source: null,
    });
  const headOf = (disk: string) => opened.pool.chainLayer(opened.pool.disk(disk).head);
  const allocated = (file: string) => statSync(file).blocks * 512;
  const layerCount = () => readdirSync(path.join(opened.directory, 'layers')).length;

  it.each([
    ['qcow2', 'falloc'],
    ['qcow2', 'full'],
    ['raw', 'falloc'],
    ['raw', 'full'],
  ] as const)(
    'allocates a %s disk with preallocation %s at once, and keeps that when it grows',
    async (format, preallocation) => {
      await create('a', { format, preallocation }, 8 * MiB);
      expect(allocated(headOf('a').path)).toBeGreaterThanOrEqual(8 * MiB);
      await opened.disks.grow('a', { requiredBytes: 16 * MiB, limitBytes: 0 });
      expect(headOf('a').virtualSizeBytes).toBe(16 * MiB);
      expect(allocated(headOf('a').path)).toBeGreaterThanOrEqual(16 * MiB);
    },
  );

  it('takes no space for a thin disk, of any size', async () => {
    await create('a', {}, 1024 * GiB);
    await create('b', { format: 'raw' }, 1024 * GiB);
    expect(allocated(headOf('a').path)).toBeLessThan(MiB);
    expect(allocated(headOf('b').path)).toBeLessThan(MiB);
  });

  it('gives layers the cluster size asked for, overlays too', async () => {
    await create('a', { clusterSizeBytes: 128 * KiB });
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    const info = JSON.parse(
      execFileSync('qemu-img', ['info', '--output=json', headOf('a').path], { encoding: 'utf8' }),
    );
    expect(info['cluster-size']).toBe(128 * KiB);
  });

  it('keeps a snapshot as it was while its disk goes on, and restores it to a bigger size', async () => {
    await create('a');
    writePattern(opened, 'a', 1, 0, MiB);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    writePattern(opened, 'a', 2, 0, MiB);
    const restored = await opened.disks.create({
      name: 'b',
      size: { requiredBytes: 3 * GiB, limitBytes: 0 },
      options: thin,
      source: { kind: 'snapshot', id: 's' },
    });
    expect(restored.sizeBytes).toBe(3 * GiB);
    expectPattern(opened, restored.head, 1, 0, MiB);
    expectPattern(opened, restored.head, 0, GiB - 8 * MiB, 16 * MiB);
    expectPattern(opened, restored.head, 0, 3 * GiB - 8 * MiB, 8 * MiB);
    expectPattern(opened, headOf('a').id, 2, 0, MiB);
  });

  it('lets disks, snapshots and clones be deleted in any order', async () => {
    await create('a');
    writePattern(opened, 'a', 1, 0, MiB);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    await opened.disks.create({ name: 'b', size: anySize, options: thin, source: { kind: 'snapshot', id: 's' } });
    await opened.disks.create({ name: 'c', size: anySize, options: thin, source: { kind: 'disk', id: 'b' } });
    await opened.disks.delete('a');
    await opened.disks.deleteSnapshot('s');
    await opened.disks.delete('b');
    expectPattern(opened, headOf('c').id, 1, 0, MiB);
    await opened.compactor.settled();
    expectPattern(opened, headOf('c').id, 1, 0, MiB);
    await opened.disks.delete('c');
    expect(layerCount()).toBe(0);
  });

  it('does not lengthen the chain for a snapshot of what was not written since the last', async () => {
    await create('a');
    writePattern(opened, 'a', 1, 0, MiB);
    for (let n = 0; n < 5; n++) await opened.disks.createSnapshot({ name: `s${n}`, diskId: 'a' });
    expect(opened.pool.chain(headOf('a').id)).toHaveLength(2);
    for (let n = 0; n < 5; n++) {
      await opened.disks.create({ name: `c${n}`, size: anySize, options: thin, source: { kind: 'disk', id: 'a' } });
    }
    expect(layerCount()).toBe(2 + 5);
    for (let n = 0; n < 5; n++) expectPattern(opened, headOf(`c${n}`).id, 1, 0, MiB);
  });

  it('merges what deleted snapshots leave, and bounds the chain', async () => {
    await create('a');
    for (let n = 0; n < 24; n++) {
      writePattern(opened, 'a', n + 1, n * MiB, MiB);
      await opened.disks.createSnapshot({ name: `s${n}`, diskId: 'a' });
    }
    for (let n = 0; n < 24; n++) await opened.disks.deleteSnapshot(`s${n}`);
    await opened.compactor.settled();
    expect(opened.pool.chain(headOf('a').id).length).toBeLessThanOrEqual(3);
    for (let n = 0; n < 24; n++) expectPattern(opened, headOf('a').id, n + 1, n * MiB, MiB);
  });

  it('does not rewrite a big base for a small gain', async () => {
    await create('a');
    writePattern(opened, 'a', 1, 0, 64 * MiB);
    await opened.disks.createSnapshot({ name: 'base', diskId: 'a' });
    writePattern(opened, 'a', 2, 0, MiB);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    await opened.disks.deleteSnapshot('base');
    await opened.compactor.settled();
    expect(opened.pool.chain(headOf('a').id)).toHaveLength(3);
  });

  it('merges layers of different sizes without losing what lies beyond the smaller one', async () => {
    await create('a', {}, 8 * MiB);
    writePattern(opened, 'a', 1, 0, 8 * MiB);
    await opened.disks.createSnapshot({ name: 's0', diskId: 'a' });
    await opened.disks.grow('a', { requiredBytes: 16 * MiB, limitBytes: 0 });
    writePattern(opened, 'a', 2, 12 * MiB, 4 * MiB);
    await opened.disks.createSnapshot({ name: 's1', diskId: 'a' });
    await opened.disks.grow('a', { requiredBytes: 24 * MiB, limitBytes: 0 });
    writePattern(opened, 'a', 3, 4 * MiB, 4 * MiB);
    await opened.disks.createSnapshot({ name: 's2', diskId: 'a' });
    await opened.disks.deleteSnapshot('s0');
    await opened.disks.deleteSnapshot('s1');
    await opened.compactor.settled();
    expect(opened.pool.chain(headOf('a').id)).toHaveLength(2);
    const head = headOf('a').id;
    expectPattern(opened, head, 1, 0, 4 * MiB);
    expectPattern(opened, head, 3, 4 * MiB, 4 * MiB);
    expectPattern(opened, head, 0, 8 * MiB, 4 * MiB);
    expectPattern(opened, head, 2, 12 * MiB, 4 * MiB);
    expectPattern(opened, head, 0, 16 * MiB, 8 * MiB);
  });

  it('continues a snapshotted raw disk as an overlay where extents cannot be shared, and clones it', async () => {
    await create('a', { format: 'raw', preallocation: 'falloc' }, 8 * MiB);
    writePattern(opened, 'a', 1, 0, MiB);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    writePattern(opened, 'a', 2, 0, MiB);
    expect(headOf('a').format).toBe(opened.pool.reflink ? 'raw' : 'qcow2');
    expectPattern(opened, opened.pool.snapshot('s').layer, 1, 0, MiB);
    await opened.disks.create({
      name: 'b',
      size: anySize,
      options: { ...thin, format: 'raw' },
      source: { kind: 'disk', id: 'a' },
    });
    expectPattern(opened, headOf('b').id, 2, 0, MiB);
  });

  it('finds the same disk again for the same name, and says what differs', async () => {
    const first = await create('a', {}, 2 * MiB);
    expect(await create('a', {}, 2 * MiB)).toEqual(first);
    await expect(create('a', {}, 4 * MiB)).rejects.toMatchObject({
      code: 'name-taken',
      message: expect.stringContaining('2097152 bytes'),
    });
    await expect(create('a', { format: 'raw' }, 2 * MiB)).rejects.toMatchObject({
      code: 'name-taken',
      message: expect.stringContaining('format'),
    });
    await expect(
      opened.disks.create({ name: 'a', size: anySize, options: thin, source: { kind: 'snapshot', id: 'x' } }),
    ).rejects.toMatchObject({ code: 'name-taken', message: expect.stringContaining('no source') });
  });

  it('makes 200 disks at once, and one of ten callers with the same name', async () => {
    await Promise.all(Array.from({ length: 200 }, (_, n) => create(`disk-${n}`)));
    await Promise.all(Array.from({ length: 10 }, () => create('same')));
    expect(opened.pool.disks.size).toBe(201);
    expect(layerCount()).toBe(201);
    await Promise.all(Array.from({ length: 200 }, (_, n) => opened.disks.delete(`disk-${n}`)));
    expect(layerCount()).toBe(1);
  });

  it('keeps a clone whole when its source and the snapshot it starts from are deleted meanwhile', async () => {
    await create('a');
    writePattern(opened, 'a', 1, 0, MiB);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    const source = { kind: 'snapshot' as const, id: 's' };
    const clones = Array.from({ length: 5 }, (_, n) =>
      opened.disks.create({ name: `c${n}`, size: anySize, options: thin, source }),
    );
    const deleted = [opened.disks.deleteSnapshot('s'), opened.disks.delete('a')];
    const made = await Promise.allSettled(clones);
    await Promise.all(deleted);
    for (const result of made) {
      if (result.status === 'fulfilled') expectPattern(opened, result.value.head, 1, 0, MiB);
      else expect(result.reason).toMatchObject({ code: 'snapshot-not-found' });
    }
    expect(made.some(({ status }) => status === 'fulfilled')).toBe(true);
  });

  it.each(['qcow2', 'raw'] as const)(
    'takes a snapshot that a restart finds whole after a %s disk grew and its records could not be written',
    async (format) => {
      await opened.release();
      const failing = { at: 'grow-disk/image-grown' };
      opened = await openDetachedPool(opened.directory, {}, (step) => {
        if (step === failing.at) throw new LaminaError('pool-full', 'no room for a record');
      });
      await create('a', { format }, 8 * MiB);
      writePattern(opened, 'a', 1, 0, 8 * MiB);
      const size = { requiredBytes: 16 * MiB, limitBytes: 0 };
      await expect(opened.disks.grow('a', size)).rejects.toMatchObject({ code: 'pool-full' });
      failing.at = '';
      await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
      await opened.disks.deleteSnapshot('s');
      await opened.release();
      opened = await openDetachedPool(opened.directory);
      expect((await opened.disks.grow('a', size)).sizeBytes).toBe(16 * MiB);
      expectPattern(opened, headOf('a').id, 1, 0, 8 * MiB);
      expectPattern(opened, headOf('a').id, 0, 8 * MiB, 8 * MiB);
    },
  );

  it('tells at any moment whether somebody writes to a disk, while layers below it are merged', async () => {
    await create('a');
    for (let n = 0; n < 10; n++) {
      writePattern(opened, 'a', n + 1, n * MiB, MiB);
      await opened.disks.createSnapshot({ name: `s${n}`, diskId: 'a' });
    }
    for (let n = 0; n < 10; n++) await opened.disks.deleteSnapshot(`s${n}`);
    const merging = new AbortController();
    const ask = async () => {
      while (!merging.signal.aborted) await assertNobodyWrites(opened.pool, opened.pool.disk('a'));
    };
    const asked = Promise.all(Array.from({ length: 10 }, ask));
    await Promise.race([opened.compactor.settled(), asked]);
    merging.abort();
    await asked;
    expect(opened.pool.chain(headOf('a').id).length).toBeLessThanOrEqual(3);
    for (let n = 0; n < 10; n++) expectPattern(opened, headOf('a').id, n + 1, n * MiB, MiB);
  });

  it('merges no layer that lost its end, as what is missing would become zeroes', async () => {
    await create('a');
    for (const [n, name] of ['s0', 's1'].entries()) {
      writePattern(opened, 'a', n + 1, n * MiB, MiB);
      await opened.disks.createSnapshot({ name, diskId: 'a' });
    }
    const { path: file } = opened.pool.chainLayer(opened.pool.snapshot('s0').layer);
    truncateSync(file, statSync(file).size - MiB / 2);
    await opened.disks.deleteSnapshot('s0');
    await opened.compactor.settled();
    expect(existsSync(file)).toBe(true);
    expect(opened.pool.chain(headOf('a').id)).toHaveLength(3);
  });

  it('refuses a snapshot and a restore that would make a chain too long to be attached, and changes nothing', async () => {
    await create('a');
    for (const [n, name] of ['s0', 's1'].entries()) {
      writePattern(opened, 'a', n + 1, 0, MiB);
      await opened.disks.createSnapshot({ name, diskId: 'a' });
    }
    writePattern(opened, 'a', 3, 0, MiB);
    const chain = vi.spyOn(opened.pool, 'chain').mockReturnValue(Array(maxChainLayers).fill(headOf('a')));
    const before = layerCount();
    const refused = expect.objectContaining({ code: 'chain-too-long' });
    await expect(opened.disks.createSnapshot({ name: 's2', diskId: 'a' })).rejects.toEqual(refused);
    const restore = { name: 'b', size: anySize, options: thin, source: { kind: 'snapshot', id: 's1' } } as const;
    await expect(opened.disks.create(restore)).rejects.toEqual(refused);
    expect([layerCount(), opened.pool.disks.size, opened.pool.snapshots.size]).toEqual([before, 1, 2]);
    chain.mockReturnValue(Array(maxChainLayers - 1).fill(headOf('a')));
    await opened.disks.createSnapshot({ name: 's2', diskId: 'a' });
    chain.mockRestore();
    expectPattern(opened, opened.pool.snapshot('s2').layer, 3, 0, MiB);
  });

  it('refuses a restore that is smaller than its snapshot', async () => {
    await create('a', {}, 8 * MiB);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    await expect(
      opened.disks.create({
        name: 'b',
        size: { requiredBytes: MiB, limitBytes: 4 * MiB },
        options: thin,
        source: { kind: 'snapshot', id: 's' },
      }),
    ).rejects.toMatchObject({ code: 'size-out-of-range' });
    expect(layerCount()).toBe(2);
  });
});
