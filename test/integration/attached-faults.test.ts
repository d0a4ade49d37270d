import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, readSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { MiB } from '../../src/lib/bytes.ts';
import { type AssembledPool, assemblePool, endPool } from '../assembled-pool.ts';
import { anySize, temporaryDirectory, thin } from '../detached-pool.ts';
import { kill } from '../engine-bench.ts';
import { clearBelow, leaksOfStopped } from '../leaks.ts';
import { ProvenPool } from '../proven-pool.ts';
import { processesNaming } from '../standalone.ts';

const sizeBytes = 32 * MiB;

let proven: ProvenPool;
beforeAll(async () => {
  proven = await ProvenPool.make();
});
afterAll(() => proven.remove());

describe('a disk in use, when something fails,', () => {
  let directory: string;
  let lamina: AssembledPool;
  /** The step at which the next operation fails. */
  let failAt: string;

  const poolPath = () => path.join(directory, 'pool');
  const runDir = () => path.join(directory, 'run');
  const fail = (step: string) => {
    if (step === failAt) throw new Error(`failed at ${step}`);
  };
  const restart = async () => {
    await lamina.release();
    lamina = await assemblePool(poolPath(), runDir(), fail);
  };

  beforeEach(async () => {
    directory = temporaryDirectory();
    failAt = '';
    proven.copyTo(directory);
    lamina = await assemblePool(poolPath(), runDir(), fail);
    await create('a');
  });
  afterEach(() => endPool(lamina, directory));

  const create = (name: string, snapshot?: string) =>
    lamina.disks.create({
      name,
      size: snapshot ? anySize : { requiredBytes: sizeBytes, limitBytes: 0 },
      options: thin,
      source: snapshot ? { kind: 'snapshot', id: snapshot } : null,
    });
  const deviceOf = async (name: string) => (await lamina.attachments.attachment(name))?.device?.path ?? '';

  async function write(name: string, byte: number): Promise<void> {
    const file = openSync(await deviceOf(name), 'r+');
    writeSync(file, Buffer.alloc(MiB, byte), 0, MiB, MiB);
    fsyncSync(file);
    closeSync(file);
  }

  async function read(name: string): Promise<number[]> {
    const file = openSync((await lamina.attachments.attach(name)).path, 'r');
    const bytes = Buffer.alloc(MiB);
    readSync(file, bytes, 0, MiB, MiB);
    closeSync(file);
    return [...new Set(bytes)];
  }

  it('has the next snapshot right after one that failed half-way was deleted', async () => {
    await lamina.attachments.attach('a');
    await write('a', 1);
    failAt = 'take-snapshot/head-recorded';
    await expect(lamina.disks.createSnapshot({ name: 'first', diskId: 'a' })).rejects.toThrow('failed at');
    failAt = '';
    await lamina.disks.deleteSnapshot('first');
    await write('a', 2);
    await lamina.disks.createSnapshot({ name: 'second', diskId: 'a' });
    await write('a', 3);
    await create('restored', 'second');
    expect(await read('restored')).toEqual([2]);
    expect(await read('a')).toEqual([3]);
  });

  it('has the next snapshot right after a clone failed half-way and its daemon did not answer a new plugin', async () => {
    await lamina.attachments.attach('a');
    await write('a', 1);
    failAt = 'take-snapshot/head-recorded';
    const clone = { name: 'clone', size: anySize, options: thin, source: { kind: 'disk', id: 'a' } } as const;
    await expect(lamina.disks.create(clone)).rejects.toThrow('failed at');
    failAt = '';
    const daemon = (await lamina.supervisor.findDaemon('a'))?.pid as number;
    process.kill(daemon, 'SIGSTOP');
    await restart();
    process.kill(daemon, 'SIGCONT');
    await write('a', 2);
    await expect
      .poll(() => lamina.disks.createSnapshot({ name: 'second', diskId: 'a' }).then(() => 'taken', String), {
        timeout: 60_000,
      })
      .toBe('taken');
    await write('a', 3);
    await create('restored', 'second');
    expect(await read('restored')).toEqual([2]);
    expect(await read('a')).toEqual([3]);
  });

  it('has all its bytes after it grew, its records could not be written, and it was snapshotted', async () => {
    await lamina.attachments.attach('a');
    await write('a', 1);
    failAt = 'grow-disk/image-grown';
    const size = { requiredBytes: 2 * sizeBytes, limitBytes: 0 };
    await expect(lamina.disks.grow('a', size)).rejects.toThrow('failed at');
    failAt = '';
    await lamina.disks.createSnapshot({ name: 's', diskId: 'a' });
    await write('a', 2);
    await restart();
    expect(lamina.pool.disk('a').sizeBytes).toBe(2 * sizeBytes);
    expect(await read('a')).toEqual([2]);
    await create('restored', 's');
    expect(await read('restored')).toEqual([1]);
  });

  it('is found by the export of its daemon where the note of its device is damaged', async () => {
    const device = await lamina.attachments.attach('a');
    await write('a', 1);
    writeFileSync(lamina.supervisor.pathsOf('a').device, '{"device": "/de');
    await restart();
    expect((await lamina.attachments.attachment('a'))?.device).toEqual(device);
    expect(await read('a')).toEqual([1]);
  });

  it('is neither snapshotted nor deleted as a detached one where its daemon is lost to the supervisor', async () => {
    const device = await lamina.attachments.attach('a');
    await write('a', 1);
    const { spec } = lamina.supervisor.pathsOf('a');
    truncateSync(spec, 10);
    const daemon = (await lamina.supervisor.findDaemon('a'))?.pid as number;
    for (const { pid } of (await processesNaming(directory)).filter(({ command }) => command.includes(' engine ')))
      await kill(pid, 'SIGKILL');
    await restart();
    await expect(lamina.disks.createSnapshot({ name: 's', diskId: 'a' })).rejects.toMatchObject({
      code: 'disk-in-use',
    });
    await expect(lamina.disks.delete('a')).rejects.toMatchObject({ code: 'disk-in-use' });
    await expect(lamina.attachments.attach('a')).rejects.toMatchObject({ code: 'disk-in-use' });
    execFileSync('losetup', ['-d', device.path]);
    await kill(daemon, 'SIGTERM');
    expect(await read('a')).toEqual([1]);
  });

  it('is not attached where its image lost its end', async () => {
    await lamina.attachments.attach('a');
    await write('a', 1);
    await lamina.attachments.detach('a');
    const { path: file } = lamina.pool.chainLayer(lamina.pool.disk('a').head);
    const whole = statSync(file).size;
    execFileSync('cp', [file, `${file}.whole`]);
    truncateSync(file, whole - MiB / 2);
    await expect(lamina.attachments.attach('a')).rejects.toMatchObject({ code: 'layer-corrupt' });
    expect(await lamina.attachments.attachment('a')).toBeNull();
    execFileSync('mv', [`${file}.whole`, file]);
    expect(await read('a')).toEqual([1]);
  });
});

describe('a copy of a pool', () => {
  let directory: string;
  let original: AssembledPool;
  beforeEach(async () => {
    directory = temporaryDirectory();
    proven.copyTo(directory);
    original = await assemblePool(path.join(directory, 'pool'), path.join(directory, 'run'));
    const size = { requiredBytes: sizeBytes, limitBytes: 0 };
    await original.disks.create({ name: 'a', size, options: thin, source: null });
    execFileSync('cp', ['-a', path.join(directory, 'pool'), path.join(directory, 'copy')]);
  });
  afterEach(async () => {
    expect(await leaksOfStopped(directory)).toEqual([]);
    await clearBelow(directory);
  });

  const openCopy = () => assemblePool(path.join(directory, 'copy'), path.join(directory, 'run'));

  it('is not served beside the original, whose disks it would take for its own', async () => {
    await expect(openCopy()).rejects.toMatchObject({ code: 'pool-locked' });
    await original.release();
    const copy = await openCopy();
    expect([...copy.pool.disks.keys()]).toEqual(['a']);
    await copy.release();
  });

  it('is not served while a disk of the original is attached, and is when that was detached', async () => {
    await original.attachments.attach('a');
    await original.release();
    await expect(openCopy()).rejects.toMatchObject({
      code: 'pool-locked',
      message: expect.stringContaining(path.join(directory, 'pool')),
    });
    original = await assemblePool(path.join(directory, 'pool'), path.join(directory, 'run'));
    expect(await original.attachments.attachment('a')).toMatchObject({ state: 'healthy' });
    await original.attachments.detach('a');
    await original.release();
    await (await openCopy()).release();
  });
});
