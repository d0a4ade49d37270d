import { readdirSync, writeFileSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { QemuAttacher } from '../../src/engine/attach/attacher.ts';
import { selectDataPath } from '../../src/engine/attach/self-test.ts';
import { type EngineStep, engineSteps } from '../../src/engine/attach/steps.ts';
import { blockDeviceSizeBytes } from '../../src/host/block-device.ts';
import { hasKernelNbd } from '../../src/host/nbd.ts';
import { KiB, MiB } from '../../src/lib/bytes.ts';
import { type Checkpoint, listSteps } from '../../src/lib/checkpoint.ts';
import { isLaminaError } from '../../src/lib/errors.ts';
import type { ChainLayer } from '../../src/store/records.ts';
import { allocatedBytes, EngineBench, kill, safeDataPath, sh } from '../engine-bench.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { mountsBelow } from '../leaks.ts';

/** Disks attached by the kernel's network block devices. Run in the machine of test/vm/run, by test/integration/nbd.test.ts. */
const dataPath = { ...safeDataPath, backend: 'nbd' } as const;
const size = 64 * MiB;

/** One for all tests: starting a supervisor takes longer here than anything else. */
let bench: EngineBench;
let diskId: string;
let disks = 0;

beforeAll(async () => {
  bench = new EngineBench();
  await attacherOf();
});
beforeEach(() => {
  diskId = `disk-${disks++}`;
});
afterEach(async () => {
  const daemons = await (await bench.ensureSupervisor()).listDaemons();
  const left = { mounts: mountPoints(), devices: connectedDevices(), daemons };
  // So that a test that failed does not fail the next.
  for (const mount of left.mounts) bench.unmount(mount);
  for (const daemon of daemons) await (await attacherOf()).detach({ diskId: daemon.diskId, chain: [] });
  expect(left).toEqual({ mounts: [], devices: [], daemons: [] });
});
afterAll(() => bench.close());

const request = (chain: ChainLayer[], id = diskId) => ({ diskId: id, chain, viaEngine: false, discard: true });

/** The supervisor may start more slowly than its client waits; it is there at the next attempt. */
async function attacherOf(checkpoint: Checkpoint<EngineStep> = () => {}): Promise<QemuAttacher> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await bench.attacher({ dataPath, checkpoint });
    } catch (error) {
      if (!isLaminaError(error, 'engine-unavailable') || attempt === 5) throw error;
    }
  }
}

/** What is mounted below the bench's directory. */
function mountPoints(): string[] {
  return mountsBelow(bench.directory).flatMap((line) => line.split(' ')[5] ?? []);
}

function connectedDevices(): string[] {
  return readdirSync('/sys/block').filter(
    (name) => name.startsWith('nbd') && readdirSync(`/sys/block/${name}`).includes('pid'),
  );
}

async function write(device: string, offset: number, text: string): Promise<void> {
  await using handle = await open(device, 'r+');
  await handle.write(text, offset);
  await handle.sync();
}

async function read(file: string, offset: number, length: number): Promise<string> {
  await using handle = await open(file, 'r');
  return (await handle.read(Buffer.alloc(length), 0, length, offset)).buffer.toString();
}

it('is what the self-test chooses where it is preferred', async () => {
  expect(await hasKernelNbd()).toBe(true);
  const poolPath = path.join(bench.directory, 'pool');
  await mkdir(path.join(poolPath, 'tmp'), { recursive: true });
  const client = await bench.ensureSupervisor();
  const chosen = await selectDataPath({
    client,
    runDir: bench.runDir,
    poolPath,
    logger: silentLogger,
    preferNbd: true,
  });
  expect(chosen.backend).toBe('nbd');
});

it('gives a device of the size, is found by a plugin started anew, and takes it away', async () => {
  const disk = request([bench.image('qcow2', size)]);
  const device = await (await attacherOf()).attach(disk);
  expect(device.path).toMatch(/^\/dev\/nbd[0-9]+$/);
  expect(await blockDeviceSizeBytes(device.path)).toBe(size);
  const successor = await attacherOf();
  expect(await successor.find(disk)).toEqual({ by: 'nbd', device, state: 'healthy' });
  expect(await successor.attach(disk)).toEqual(device);
  await successor.detach(disk);
  expect(await successor.find(disk)).toBeNull();
  await successor.detach(disk);
});

it('keeps two disks apart', async () => {
  const attacher = await attacherOf();
  const two = ['one', 'two'].map((id) => request([bench.image('qcow2', size)], id));
  const devices = await Promise.all(two.map((disk) => attacher.attach(disk)));
  expect(new Set(devices.map((device) => device.path)).size).toBe(2);
  for (const [index, device] of devices.entries()) await write(device.path, 0, `disk ${index}`);
  for (const disk of two) await attacher.detach(disk);
  for (const [index, disk] of two.entries()) {
    expect(await read((await attacher.attach(disk)).path, 0, 6)).toBe(`disk ${index}`);
    await attacher.detach(disk);
  }
});

it('has before and after of a live snapshot in the right layers, also of what was only in the page cache', async () => {
  const attacher = await attacherOf();
  const base = bench.image('qcow2', size);
  const device = await attacher.attach(request([base]));
  sh('mkfs.ext4', '-q', device.path);
  const mount = bench.mount(device.path);
  writeFileSync(path.join(mount, 'before'), 'b'.repeat(MiB));
  const overlay = bench.image('qcow2', size, { backing: base });
  await attacher.prepareHead(diskId, overlay, true);
  sh('fsfreeze', '--freeze', mount);
  await attacher.switchHead(diskId, overlay.id);
  sh('fsfreeze', '--unfreeze', mount);
  expect(await attacher.activeHead(diskId)).toBe(overlay.id);
  writeFileSync(path.join(mount, 'after'), 'a'.repeat(MiB));
  bench.unmount(mount);
  await attacher.detach(request([overlay, base]));
  expect(await filesIn(base)).toEqual(['before']);
  expect(await filesIn(overlay, base)).toEqual(['after', 'before']);
});

/** What is on the file system of a chain, attached for the purpose. */
async function filesIn(...chain: ChainLayer[]): Promise<string[]> {
  const attacher = await attacherOf();
  const device = await attacher.attach(request(chain, `${diskId}-again`));
  const mount = bench.mount(device.path);
  const files = readdirSync(mount).filter((name) => name !== 'lost+found');
  const contents = files.map((name) => sh('head', '-c1', path.join(mount, name)));
  bench.unmount(mount);
  await attacher.detach(request(chain, `${diskId}-again`));
  expect(contents).toEqual(files.map((name) => name.charAt(0)));
  return files.toSorted();
}

it('says that it cannot grow in use, leaves the disk in service, and is as big as the image when attached again', async () => {
  const attacher = await attacherOf();
  const layer = bench.image('qcow2', size);
  const device = await attacher.attach(request([layer]));
  sh('mkfs.ext4', '-q', device.path);
  const mount = bench.mount(device.path);
  const growing = attacher.resize(request([layer]), 2 * size);
  await expect(growing).rejects.toMatchObject({ code: 'disk-in-use' });
  await expect(growing).rejects.toThrow('Detach');
  writeFileSync(path.join(mount, 'file'), 'still writable');
  bench.unmount(mount);
  await attacher.detach(request([layer]));
  sh('qemu-img', 'resize', '-q', '-f', 'qcow2', layer.path, String(2 * size));
  const grown = request([{ ...layer, virtualSizeBytes: 2 * size }]);
  expect(await blockDeviceSizeBytes((await attacher.attach(grown)).path)).toBe(2 * size);
  await attacher.detach(grown);
});

it('gives discarded space back', async () => {
  const attacher = await attacherOf();
  const layer = bench.image('qcow2', size);
  const device = await attacher.attach(request([layer]));
  await write(device.path, 0, 'x'.repeat(16 * MiB));
  expect(allocatedBytes(layer.path)).toBeGreaterThan(16 * MiB);
  sh('blkdiscard', '--force', device.path);
  await attacher.detach(request([layer]));
  expect(allocatedBytes(layer.path)).toBeLessThan(MiB);
});

it('refuses to detach what is mounted, and leaves it in service', async () => {
  const attacher = await attacherOf();
  const disk = request([bench.image('qcow2', size)]);
  const device = await attacher.attach(disk);
  sh('mkfs.ext4', '-q', device.path);
  const mount = bench.mount(device.path);
  await expect(attacher.detach(disk)).rejects.toMatchObject({ code: 'disk-in-use' });
  writeFileSync(path.join(mount, 'file'), 'still writable');
  sh('sync', '--file-system', mount);
  bench.unmount(mount);
  await attacher.detach(disk);
});

it('of a daemon that was killed fails at once, and after detaching the disk has all that was fsynced', async () => {
  const attacher = await attacherOf();
  const disk = request([bench.image('qcow2', size)]);
  const device = await attacher.attach(disk);
  await write(device.path, 4 * KiB, 'fsynced');
  await kill(await bench.daemonPid(diskId), 'SIGKILL');
  expect(await attacher.find(disk)).toMatchObject({ by: 'nbd', state: 'dead' });
  await expect(write(device.path, MiB, 'lost')).rejects.toMatchObject({ code: 'EIO' });
  await attacher.detach(disk);
  expect(await read((await attacher.attach(disk)).path, 4 * KiB, 7)).toBe('fsynced');
  await attacher.detach(disk);
});

it('goes on when the supervisor is killed', async () => {
  const disk = request([bench.image('qcow2', size)]);
  const device = await (await attacherOf()).attach(disk);
  await kill(bench.supervisorPid(), 'SIGKILL');
  await write(device.path, 0, 'kept');
  const attacher = await attacherOf();
  expect(await attacher.find(disk)).toEqual({ by: 'nbd', device, state: 'healthy' });
  await attacher.detach(disk);
});

describe('broken off at any step', () => {
  const steps = listSteps(engineSteps).filter((step) => /^(attach|detach)-engine/.test(step));

  it.each(steps)('%s: the next attempts find, finish and clear it', async (cutAt) => {
    const disk = request([bench.image('qcow2', size)]);
    const checkpoint = (step: string): void => {
      if (step === cutAt) throw new Error(`cut at ${cutAt}`);
    };
    const cut = await attacherOf(checkpoint);
    const whole = await attacherOf();
    if (cutAt.startsWith('attach-')) await expect(cut.attach(disk)).rejects.toThrow('cut at');
    const device = await whole.attach(disk);
    expect(await whole.find(disk)).toMatchObject({ by: 'nbd', device });
    expect(connectedDevices()).toHaveLength(1);
    if (cutAt.startsWith('detach-')) await expect(cut.detach(disk)).rejects.toThrow('cut at');
    await whole.detach(disk);
    expect(await whole.find(disk)).toBeNull();
  });
});
