import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { engineSteps } from '../../src/engine/attach/steps.ts';
import { blockDeviceSizeBytes } from '../../src/host/block-device.ts';
import { fileOfLoopDevice, hasDirectIo, listLoopDevices } from '../../src/host/loop.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import type { ChainLayer } from '../../src/store/records.ts';
import { EngineBench, sh } from '../engine-bench.ts';

const size = 64 * MiB;

let bench: EngineBench;
beforeEach(() => {
  bench = new EngineBench();
});
afterEach(() => bench.close());

const request = (chain: ChainLayer[], options: { viaEngine?: boolean; discard?: boolean } = {}) => ({
  diskId: 'disk',
  chain,
  viaEngine: options.viaEngine ?? false,
  discard: options.discard ?? true,
});

function writeAt(device: string, offset: number, text: string): void {
  const fd = openSync(device, 'r+');
  writeSync(fd, text, offset);
  fsyncSync(fd);
  closeSync(fd);
}

function readAt(device: string, offset: number, length: number): string {
  const fd = openSync(device, 'r');
  const buffer = Buffer.alloc(length);
  readSync(fd, buffer, 0, length, offset);
  closeSync(fd);
  return buffer.toString();
}

describe.each([
  { name: 'a raw file', by: 'loop', format: 'raw', viaEngine: false },
  { name: 'a raw file through the engine', by: 'fuse', format: 'raw', viaEngine: true },
  { name: 'a qcow2 image', by: 'fuse', format: 'qcow2', viaEngine: false },
] as const)('attaching $name', ({ by, format, viaEngine }) => {
  it('gives a device of the size, finds it again, and takes it away', async () => {
    const attacher = await bench.attacher();
    const disk = request([bench.image(format, size)], { viaEngine });
    expect(await attacher.find(disk)).toBeNull();
    const device = await attacher.attach(disk);
    expect(await blockDeviceSizeBytes(device.path)).toBe(size);
    expect(await attacher.attach(disk)).toEqual(device);
    expect(await attacher.find(disk)).toEqual({ by, device, state: 'healthy' });
    await attacher.detach(disk);
    expect(await attacher.find(disk)).toBeNull();
    await attacher.detach(disk);
  });

  it('keeps what was written', async () => {
    const attacher = await bench.attacher();
    const disk = request([bench.image(format, size)], { viaEngine });
    writeAt((await attacher.attach(disk)).path, 40 * MiB + 512, 'kept');
    await attacher.detach(disk);
    expect(readAt((await attacher.attach(disk)).path, 40 * MiB + 512, 4)).toBe('kept');
    await attacher.detach(disk);
  });

  it('is found by a plugin that was started anew', async () => {
    const disk = request([bench.image(format, size)], { viaEngine });
    const device = await (await bench.attacher()).attach(disk);
    const successor = await bench.attacher();
    expect(await successor.find(disk)).toEqual({ by, device, state: 'healthy' });
    expect(await successor.attach(disk)).toEqual(device);
    await successor.detach(disk);
  });

  it('refuses to detach what is mounted, and leaves it in service', async () => {
    const attacher = await bench.attacher();
    const disk = request([bench.image(format, size)], { viaEngine });
    const device = await attacher.attach(disk);
    sh('mkfs.ext4', '-q', device.path);
    const mount = bench.mount(device.path);
    await expect(attacher.detach(disk)).rejects.toMatchObject({ code: 'disk-in-use' });
    writeFileSync(path.join(mount, 'file'), 'still writable');
    bench.unmount(mount);
    await attacher.detach(disk);
  });

  it('refuses to detach what is open, and does it once that is closed', async () => {
    const attacher = await bench.attacher();
    const disk = request([bench.image(format, size)], { viaEngine });
    const device = await attacher.attach(disk);
    const fd = openSync(device.path, 'r');
    await expect(attacher.detach(disk)).rejects.toMatchObject({ code: 'disk-in-use' });
    // It goes away under whoever is given it now.
    await expect(attacher.attach(disk)).rejects.toMatchObject({ code: 'disk-in-use' });
    closeSync(fd);
    await attacher.detach(disk);
    expect(await attacher.find(disk)).toBeNull();
  });

  it('grows in use', async () => {
    const attacher = await bench.attacher();
    // xfs: growing ext4 online takes CAP_SYS_RESOURCE, which not every root has.
    const [before, after] = [320 * MiB, 512 * MiB];
    const layer = bench.image(format, before);
    const disk = request([layer], { viaEngine });
    const device = await attacher.attach(disk);
    sh('mkfs.xfs', '-q', device.path);
    const mount = bench.mount(device.path);
    writeFileSync(path.join(mount, 'file'), 'x'.repeat(MiB));
    if (by === 'loop') truncateSync(layer.path, after);
    await attacher.resize(disk, after);
    await attacher.resize(disk, after);
    expect(await blockDeviceSizeBytes(device.path)).toBe(after);
    sh('xfs_growfs', mount);
    expect(statfsSync(mount).blocks * statfsSync(mount).bsize).toBeGreaterThan(before);
    expect(readFileSync(path.join(mount, 'file'), 'utf8')).toBe('x'.repeat(MiB));
    bench.unmount(mount);
    await attacher.detach(disk);
  });
});

it('reads the whole chain, and writes to its head alone', async () => {
  const attacher = await bench.attacher();
  const raw = bench.image('raw', size);
  const lower = bench.image('qcow2', size, { backing: raw });
  const head = bench.image('qcow2', 2 * size, { backing: lower });
  for (const [chain, offset, text] of [
    [[raw], 0, 'raw'],
    [[lower, raw], MiB, 'lower'],
    [[head, lower, raw], 2 * MiB, 'head'],
  ] as const) {
    const device = await attacher.attach(request([...chain]));
    writeAt(device.path, offset, text);
    await attacher.detach(request([...chain]));
  }
  const sealed = [raw, lower].map((layer) => readFileSync(layer.path));
  const { path: device } = await attacher.attach(request([head, lower, raw]));
  expect(await blockDeviceSizeBytes(device)).toBe(2 * size);
  expect([readAt(device, 0, 3), readAt(device, MiB, 5), readAt(device, 2 * MiB, 4)]).toEqual(['raw', 'lower', 'head']);
  writeAt(device, 0, 'RAW');
  await attacher.detach(request([head, lower, raw]));
  expect([raw, lower].map((layer, index) => readFileSync(layer.path).equals(sealed[index]!))).toEqual([true, true]);
});

it('follows no backing file that only a header names', async () => {
  const attacher = await bench.attacher();
  const secret = bench.image('raw', size);
  writeFileSync(secret.path, Buffer.alloc(size, 's'));
  const head = bench.image('qcow2', size, { backing: secret });
  const { path: device } = await attacher.attach(request([head]));
  expect(readAt(device, 0, 4)).toBe('\0\0\0\0');
  await attacher.detach(request([head]));
});

it('puts direct I/O under a raw file', async () => {
  const attacher = await bench.attacher();
  const disk = request([bench.image('raw', size)]);
  expect(await hasDirectIo((await attacher.attach(disk)).path)).toBe(true);
  await attacher.detach(disk);
});

it('says why a daemon did not start, and leaves nothing of it', async () => {
  const attacher = await bench.attacher();
  const layer = bench.image('qcow2', size);
  writeFileSync(layer.path, 'no qcow2');
  await expect(attacher.attach(request([layer]))).rejects.toMatchObject({
    code: 'tool-failed',
    message: expect.stringContaining('Image is not in qcow2 format'),
  });
  expect(await attacher.daemonDiskIds()).toEqual([]);
  expect(await attacher.find(request([layer]))).toBeNull();
});

describe('broken off at any step', () => {
  // Those of merges below an attached disk are in live-merges.test.ts.
  const steps = listSteps(engineSteps).filter((step) => !step.startsWith('follow-chain/'));

  it.each(steps)('%s: the next attempts find, finish and clear it', async (cutAt) => {
    const isLoop = cutAt.includes('-loop/');
    const layer = bench.image(isLoop ? 'raw' : 'qcow2', size);
    const disk = request([layer], { discard: false });
    const cut = await bench.attacher({
      checkpoint: (step) => {
        if (step === cutAt) throw new Error(`cut at ${cutAt}`);
      },
    });
    const whole = await bench.attacher();
    if (cutAt.startsWith('attach-')) await expect(cut.attach(disk)).rejects.toThrow('cut at');
    const device = await whole.attach(disk);
    if (isLoop) truncateSync(layer.path, 2 * size);
    if (cutAt.startsWith('resize-')) await expect(cut.resize(disk, 2 * size)).rejects.toThrow('cut at');
    await whole.resize(disk, 2 * size);
    expect(await blockDeviceSizeBytes(device.path)).toBe(2 * size);
    expect(await devicesOf(device.path)).toHaveLength(1);
    if (cutAt.startsWith('detach-')) await expect(cut.detach(disk)).rejects.toThrow('cut at');
    await whole.detach(disk);
    expect(await whole.find(disk)).toBeNull();
  });

  /** All devices on the same file as `device`. */
  async function devicesOf(device: string) {
    const own = await fileOfLoopDevice(device);
    const all = await listLoopDevices();
    const files = await Promise.all(all.map((candidate) => fileOfLoopDevice(candidate.path)));
    return files.filter((file) => JSON.stringify(file) === JSON.stringify(own));
  }
});
