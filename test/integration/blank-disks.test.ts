import { closeSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Staging } from '../../src/engine/staging/staging.ts';
import { KiB, MiB } from '../../src/lib/bytes.ts';
import { isUntouched } from '../../src/store/layers.ts';
import type { DiskOptions } from '../../src/store/records.ts';
import { type AssembledPool, assemblePool } from '../assembled-pool.ts';
import { anySize, temporaryDirectory, thin } from '../detached-pool.ts';
import { noPause } from '../fakes/no-pause.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { clearBelow, leaksOfStopped } from '../leaks.ts';
import { block, ext4 } from '../staging-scene.ts';

const raw: DiskOptions = { ...thin, format: 'raw' };
const kinds: [string, DiskOptions][] = [
  ['qcow2', thin],
  ['qcow2 and written full of zeroes', { ...thin, preallocation: 'full' }],
  ['qcow2 with small clusters, written full of zeroes', { ...thin, preallocation: 'full', clusterSizeBytes: 4 * KiB }],
  ['raw', raw],
  ['raw and reserved', { ...raw, preallocation: 'falloc' }],
  ['raw and written full of zeroes', { ...raw, preallocation: 'full' }],
  ['raw, through the engine, and written full of zeroes', { ...raw, preallocation: 'full', liveSnapshots: true }],
];

const sizeBytes = 64 * MiB;
/** Where nobody would look who looks here and there. */
const oddOffset = 20_700 * KiB;
const text = 'somebody wrote this';

let directory: string;
let lamina: AssembledPool;
let staging: Staging;
beforeAll(async () => {
  directory = temporaryDirectory();
  const pool = path.join(directory, 'pool');
  mkdirSync(pool);
  const runDir = path.join(directory, 'run');
  lamina = await assemblePool(pool, runDir);
  const disks = lamina.attachments;
  staging = new Staging({
    disks,
    nodeName: 'node-1',
    runDir,
    checkpoint: () => {},
    logger: silentLogger,
    pauses: noPause,
  });
});
afterAll(async () => {
  await lamina.compactor.settled();
  await lamina.release();
  expect(await leaksOfStopped(directory)).toEqual([]);
  await clearBelow(directory);
});
afterEach(async () => {
  for (const { id } of [...lamina.pool.disks.values()]) {
    await unstage(id);
    await lamina.disks.delete(id);
  }
});

const at = (diskId: string) => ({ diskId, stagingPath: path.join(directory, `staging-${diskId}`) });
const unstage = (diskId: string) => staging.unstage(at(diskId));
const create = (options: DiskOptions) =>
  lamina.disks.create({ name: 'd', size: { requiredBytes: sizeBytes, limitBytes: 0 }, options, source: null });

async function device(diskId: string): Promise<string> {
  return (await lamina.attachments.attachment(diskId))?.device?.path ?? '';
}

/** How much of it has to be read to see that it is blank. */
async function writtenBytes(diskId: string): Promise<number> {
  let bytes = 0;
  const extents = lamina.attachments.writtenExtents(diskId, AbortSignal.timeout(60_000));
  for await (const { length } of extents) bytes += length;
  return bytes;
}

function read(from: string): string {
  const file = openSync(from, 'r');
  const bytes = Buffer.alloc(text.length);
  readSync(file, bytes, 0, bytes.length, oddOffset);
  closeSync(file);
  return bytes.toString();
}

describe.each(kinds)('a disk that is %s', (_, options) => {
  it('is known to be blank without being read, and gets a file system', async () => {
    await create(options);
    await lamina.attachments.attach('d');
    expect(await writtenBytes('d')).toBeLessThanOrEqual(4 * KiB);
    await staging.stage({ ...at('d'), access: ext4 });
    expect(lamina.pool.disk('d').filesystem).toEqual({ type: 'ext4', state: 'formatted' });
  });

  it('is not blank where it was written as a block volume, nor are those made of it', async () => {
    await create(options);
    await staging.stage({ ...at('d'), access: block });
    // By then already: a power cut may keep what is written, and not when it was.
    expect(await isUntouched(lamina.pool.chain(lamina.pool.disk('d').head))).toBe(false);
    // Not fsynced, and not detached in between: the kernel and the daemon may hold some of it.
    const file = openSync(await device('d'), 'r+');
    writeSync(file, text, oddOffset);
    closeSync(file);
    await expect(staging.stage({ ...at('d'), access: ext4 })).rejects.toMatchObject({ code: 'filesystem-unknown' });
    await unstage('d');
    await lamina.disks.create({ name: 'clone', size: anySize, options, source: { kind: 'disk', id: 'd' } });
    for (const diskId of ['d', 'clone']) {
      await expect(staging.stage({ ...at(diskId), access: ext4 })).rejects.toMatchObject({
        code: 'filesystem-unknown',
      });
      expect(lamina.pool.disk(diskId).filesystem).toBeNull();
      expect(read(await device(diskId))).toBe(text);
    }
  });
});

it('makes no file system where a disk that was written to cannot be read in time', async () => {
  await create(thin);
  const file = openSync((await lamina.attachments.attach('d')).path, 'r+');
  for (let piece = 0; piece < 16; piece++) writeSync(file, Buffer.alloc(MiB), 0, MiB, piece * MiB);
  closeSync(file);
  vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort(new Error('a minute is over')));
  try {
    await expect(staging.stage({ ...at('d'), access: ext4 })).rejects.toMatchObject({
      code: 'filesystem-unknown',
      message: expect.stringContaining('cannot be told in time'),
    });
  } finally {
    vi.restoreAllMocks();
  }
  expect(lamina.pool.disk('d').filesystem).toBeNull();
  await staging.stage({ ...at('d'), access: ext4 });
  expect(lamina.pool.disk('d').filesystem).toEqual({ type: 'ext4', state: 'formatted' });
});
