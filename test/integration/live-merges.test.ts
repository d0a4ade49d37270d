import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { engineSteps } from '../../src/engine/attach/steps.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { storeSteps } from '../../src/store/steps.ts';
import { type AssembledPool, assemblePool, endPool } from '../assembled-pool.ts';
import { anySize, temporaryDirectory, thin } from '../detached-pool.ts';
import { DeviceWriter } from '../device-writer.ts';
import { kill } from '../engine-bench.ts';
import { ProvenPool } from '../proven-pool.ts';

/** Layers below attached disks are merged, and their daemons follow, while somebody writes. */

const sizeBytes = 32 * MiB;

let proven: ProvenPool;
let directory: string;
let lamina: AssembledPool;
/** The step at which the next operation fails. */
let failAt: string;
let writers: DeviceWriter[];

beforeAll(async () => {
  proven = await ProvenPool.make();
});
afterAll(() => proven.remove());
beforeEach(async () => {
  directory = temporaryDirectory();
  failAt = '';
  writers = [];
  proven.copyTo(directory);
  lamina = await open();
});
afterEach(async () => {
  // Those of a test that failed hold their devices.
  for (const one of writers) await one.stop();
  await endPool(lamina, directory);
});

const open = () =>
  assemblePool(path.join(directory, 'pool'), path.join(directory, 'run'), (step) => {
    if (step === failAt) throw new Error(`failed at ${step}`);
  });

async function create(name: string, source?: { kind: 'snapshot' | 'disk'; id: string }): Promise<void> {
  const size = source ? anySize : { requiredBytes: sizeBytes, limitBytes: 0 };
  await lamina.disks.create({ name, size, options: thin, source: source ?? null });
}

/** Attaches a disk and writes to it without a pause. */
async function writer(diskId: string): Promise<DeviceWriter> {
  const one = await DeviceWriter.on((await lamina.attachments.attach(diskId)).path, sizeBytes);
  writers.push(one);
  return one;
}

/**
 * Takes a snapshot, when more than a quarter of what lies below was written since the last one: less would not be worth
 * rewriting it, and how many layers are left would depend on how fast this machine is. 200 writes are more than a quarter of a disk.
 */
async function snapshot(name: string, written: DeviceWriter, diskId = 'a'): Promise<void> {
  const before = written.writes;
  const enough = before + Math.max(20, Math.min(before / 3, 200));
  await expect.poll(() => written.writes, { interval: 5, timeout: 60_000 }).toBeGreaterThan(enough);
  await lamina.disks.createSnapshot({ name, diskId });
}

async function forget(...names: string[]): Promise<void> {
  for (const name of names) await lamina.disks.deleteSnapshot(name);
  await lamina.compactor.settled();
}

const chainLength = (diskId: string) => lamina.pool.chain(lamina.pool.disk(diskId).head).length;

/** Files of layers that a disk's daemon has open, and how many of them are deleted. */
async function openFiles(diskId: string) {
  const daemon = await lamina.supervisor.findDaemon(diskId);
  const descriptors = `/proc/${daemon?.pid}/fd`;
  const files = readdirSync(descriptors).map((fd) => readlinkSync(path.join(descriptors, fd)));
  const layers = files.filter((file) => file.includes('/layers/') || file.includes('/dead-'));
  return { layers: new Set(layers).size, deleted: layers.filter((file) => file.endsWith(' (deleted)')).length };
}

/** What qemu-img reads of a disk that is detached or a snapshot. */
function contentOf(layerId: Parameters<AssembledPool['pool']['chainLayer']>[0]): Buffer {
  const { format, path: file } = lamina.pool.chainLayer(layerId);
  const raw = path.join(directory, 'content.raw');
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', file, raw]);
  const content = readFileSync(raw);
  rmSync(raw);
  return content;
}

/** Both what the daemon reads and, once it is detached, what the pool holds. */
async function expectContent(diskId: string, expected: Buffer): Promise<void> {
  const device = (await lamina.attachments.attach(diskId)).path;
  execFileSync('blockdev', ['--flushbufs', device]);
  expect(readFileSync(device).equals(expected)).toBe(true);
  await lamina.attachments.detach(diskId);
  expect(contentOf(lamina.pool.disk(diskId).head).equals(expected)).toBe(true);
}

it('keeps the chain of a disk short that is snapshotted all the time and never detached', async () => {
  await create('a');
  const written = await writer('a');
  for (let n = 0; n < 30; n++) {
    await snapshot(`s${n}`, written);
    if (n > 2) await forget(`s${n - 3}`);
    expect(chainLength('a')).toBeLessThan(12);
  }
  await forget('s27', 's28', 's29');
  expect(chainLength('a')).toBeLessThan(5);
  expect(await openFiles('a')).toEqual({ layers: chainLength('a'), deleted: 0 });
  await written.stop();
  await expectContent('a', written.expected);
}, 900_000);

it('leaves the snapshots that are kept as they are', async () => {
  await create('a');
  const written = await writer('a');
  for (const name of ['s1', 's2']) await snapshot(name, written);
  await written.stop();
  await lamina.disks.createSnapshot({ name: 'kept', diskId: 'a' });
  const kept = Buffer.from(written.expected);
  const device = (await lamina.attachments.attach('a')).path;
  execFileSync('dd', ['if=/dev/urandom', `of=${device}`, 'bs=1M', 'count=8', 'oflag=direct', 'status=none']);
  await lamina.disks.createSnapshot({ name: 's4', diskId: 'a' });
  await forget('s1', 's2', 's4');
  expect(contentOf(lamina.pool.snapshot('kept').layer).equals(kept)).toBe(true);
  await create('restored', { kind: 'snapshot', id: 'kept' });
  await expectContent('restored', kept);
});

it('has the daemons of all disks follow that share the layers', async () => {
  await create('a');
  const written = await writer('a');
  for (const name of ['s1', 's2', 's3']) await snapshot(name, written);
  const content = contentOf(lamina.pool.snapshot('s3').layer);
  for (const name of ['b', 'c']) {
    await create(name, { kind: 'snapshot', id: 's3' });
    await lamina.attachments.attach(name);
  }
  await forget('s1', 's2', 's3');
  for (const name of ['a', 'b', 'c']) {
    expect(chainLength(name)).toBe(2);
    expect(await openFiles(name)).toEqual({ layers: 2, deleted: 0 });
  }
  await written.stop();
  await expectContent('a', written.expected);
  for (const name of ['b', 'c']) await expectContent(name, content);
});

const steps = [
  ...listSteps({ compact: storeSteps.compact, collect: storeSteps.collect }),
  ...listSteps({ 'follow-chain': engineSteps['follow-chain'] }),
];

it.each(steps)('goes on where it failed at %s, with the plugin restarted, under writes', async (step) => {
  await create('a');
  const written = await writer('a');
  for (const name of ['s1', 's2', 's3', 's4']) await snapshot(name, written);
  failAt = step;
  await forget('s1', 's2');
  failAt = '';
  await lamina.release();
  lamina = await open();
  await snapshot('s5', written);
  await forget('s3', 's4');
  expect(chainLength('a')).toBeLessThan(4);
  expect(await openFiles('a')).toEqual({ layers: chainLength('a'), deleted: 0 });
  await forget('s5');
  await written.stop();
  await expectContent('a', written.expected);
});

it('goes on with the files that it has open while its daemon does not answer, and follows when it does', async () => {
  await create('a');
  const written = await writer('a');
  for (const name of ['s1', 's2', 's3']) await snapshot(name, written);
  const daemon = (await lamina.supervisor.findDaemon('a'))?.pid as number;
  process.kill(daemon, 'SIGSTOP');
  const state = async () => (await lamina.attachments.attachment('a'))?.state;
  await expect.poll(state, { timeout: 60_000 }).toBe('unresponsive');
  await forget('s1', 's2');
  process.kill(daemon, 'SIGCONT');
  await expect.poll(state, { timeout: 60_000 }).toBe('healthy');
  expect((await openFiles('a')).deleted).toBeGreaterThan(0);
  lamina.compactor.wake();
  await lamina.compactor.settled();
  expect((await openFiles('a')).deleted).toBe(0);
  await written.stop();
  await expectContent('a', written.expected);
});

it('has all its bytes where its daemon is killed after it followed', async () => {
  await create('a');
  const written = await writer('a');
  for (const name of ['s1', 's2', 's3']) await snapshot(name, written);
  await written.stop();
  await forget('s1', 's2');
  await kill((await lamina.supervisor.findDaemon('a'))?.pid as number, 'SIGKILL');
  await lamina.attachments.detach('a');
  await expectContent('a', written.expected);
});
