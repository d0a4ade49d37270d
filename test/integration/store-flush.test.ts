import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
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

/** A disk that fails when this directory is flushed. What was renamed in it has its new name by then. */
const failing = vi.hoisted(() => ({ directory: '' }));

vi.mock(import('../../src/lib/fs-records.ts'), async (original) => {
  const real = await original();
  const syncDirectory = async (directory: string) => {
    if (directory === failing.directory) throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' });
    await real.syncDirectory(directory);
  };
  return { ...real, syncDirectory };
});

let opened: DetachedPool;
beforeEach(async () => {
  opened = await openDetachedPool(temporaryDirectory());
});
afterEach(async () => {
  await opened.release();
  removeDirectory(opened.directory);
});

async function whileFlushFails(directory: string, work: () => Promise<unknown>): Promise<void> {
  failing.directory = directory;
  await expect(work()).rejects.toMatchObject({ code: 'EIO' });
  failing.directory = '';
}

async function restart(): Promise<void> {
  await opened.release();
  opened = await openDetachedPool(opened.directory);
}

const create = () => opened.disks.create({ name: 'a', size: anySize, options: thin, source: null });
const snapshot = () => opened.disks.createSnapshot({ name: 's', diskId: 'a' });

it('keeps the layers of a new disk whose record is there and could not be flushed', async () => {
  await whileFlushFails(opened.pool.layout.disks, create);
  await restart();
  await create();
  writePattern(opened, 'a', 1, 0, MiB);
});

it.each(['disks', 'snapshots'] as const)(
  'loses nothing where the record of a snapshot in %s could not be flushed',
  async (which) => {
    await create();
    writePattern(opened, 'a', 1, 0, MiB);
    await whileFlushFails(opened.pool.layout[which], snapshot);
    await restart();
    await snapshot();
    writePattern(opened, 'a', 2, 0, MiB);
    await restart();
    expectPattern(opened, opened.pool.disk('a').head, 2, 0, MiB);
    expectPattern(opened, opened.pool.snapshot('s').layer, 1, 0, MiB);
  },
);

it('goes on without a restart where the record of a disk could not be flushed', async () => {
  await create();
  writePattern(opened, 'a', 1, 0, MiB);
  await whileFlushFails(opened.pool.layout.disks, snapshot);
  await snapshot();
  writePattern(opened, 'a', 2, 0, MiB);
  expectPattern(opened, opened.pool.disk('a').head, 2, 0, MiB);
  expectPattern(opened, opened.pool.snapshot('s').layer, 1, 0, MiB);
});
