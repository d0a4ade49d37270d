import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { daemonIdOf, runDirectory } from '../../src/engine/supervisor/run-directory.ts';
import { removeLoopDevice } from '../../src/host/loop.ts';
import { createReadOnlyLoop, listReadOnlyLoops } from '../../src/host/read-only-loop.ts';
import { runSupervisor } from '../../src/engine/supervisor/supervisor.ts';
import { MiB } from '../../src/lib/bytes.ts';
import type { ChainLayer } from '../../src/store/records.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { processesNaming } from '../standalone.ts';
import { EngineBench, kill, sh } from '../engine-bench.ts';
import { mountImage, unmount } from '../loop-filesystem.ts';

const size = 64 * MiB;
const diskId = 'disk';

let bench: EngineBench;
let layer: ChainLayer;
beforeEach(() => {
  bench = new EngineBench();
  layer = bench.image('qcow2', size);
});
afterEach(() => bench.close());

const request = () => ({ diskId, chain: [layer], viaEngine: false, discard: true });

async function write(device: string, text: string): Promise<void> {
  const handle = await open(device, 'r+');
  try {
    await handle.write(text, MiB);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function read(device: string, length: number): Promise<string> {
  const handle = await open(device, 'r');
  try {
    return (await handle.read(Buffer.alloc(length), 0, length, MiB)).buffer.toString();
  } finally {
    await handle.close();
  }
}

describe.each(['SIGKILL', 'SIGTERM'] as const)('a daemon ended by %s', (signal) => {
  it('is reported dead, its device fails, and after detaching the disk has all that was fsynced', async () => {
    const attacher = await bench.attacher();
    const device = await attacher.attach(request());
    await write(device.path, 'fsynced');
    await kill(await bench.daemonPid(diskId), signal);
    expect(await attacher.find(request())).toEqual({ by: 'fuse', device, state: 'dead' });
    await expect(write(device.path, 'lost')).rejects.toMatchObject({ code: 'EIO' });
    await expect(attacher.attach(request())).rejects.toMatchObject({ code: 'engine-dead' });
    await expect(attacher.activeHead(diskId)).rejects.toMatchObject({ code: 'engine-dead' });
    await expect(attacher.resize(request(), 2 * size)).rejects.toMatchObject({ code: 'engine-dead' });
    await attacher.detach(request());
    expect(await attacher.find(request())).toBeNull();
    expect(await read((await attacher.attach(request())).path, 7)).toBe('fsynced');
    await attacher.detach(request());
  });

  it('under a mounted file system is cleared away after the unmount', async () => {
    const attacher = await bench.attacher();
    const device = await attacher.attach(request());
    sh('mkfs.ext4', '-q', device.path);
    const mount = bench.mount(device.path);
    await kill(await bench.daemonPid(diskId), signal);
    await expect(attacher.detach(request())).rejects.toMatchObject({ code: 'disk-in-use' });
    bench.unmount(mount);
    await attacher.detach(request());
    const again = await attacher.attach(request());
    bench.unmount(bench.mount(again.path));
    await attacher.detach(request());
  });

  it('is found dead by a supervisor and a plugin that start later', async () => {
    const device = await (await bench.attacher()).attach(request());
    const daemon = await bench.daemonPid(diskId);
    await kill(bench.supervisorPid(), 'SIGKILL');
    await kill(daemon, signal);
    const attacher = await bench.attacher();
    expect(await attacher.find(request())).toEqual({ by: 'fuse', device, state: 'dead' });
    await attacher.detach(request());
  });
});

it('takes a killed daemon for ended only when the last of its threads is, which still writes to the image', async () => {
  const attacher = await bench.attacher();
  const store = mountImage(bench.directory, 'store', 'ext4', 128 * MiB);
  layer = { ...layer, path: path.join(store, 'data.qcow2') };
  sh('qemu-img', 'create', '-q', '-f', 'qcow2', layer.path, String(size));
  const { path: device } = await attacher.attach(request());
  const daemon = await bench.daemonPid(diskId);
  sh('fsfreeze', '--freeze', store);
  const writing = spawn('dd', ['if=/dev/zero', `of=${device}`, 'bs=1M', 'count=1', 'oflag=direct'], {
    stdio: 'ignore',
  });
  const written = once(writing, 'exit');
  try {
    await expect.poll(() => statesOfThreads(daemon)).toContain('D');
    process.kill(daemon, 'SIGKILL');
    await expect.poll(() => statesOfThreads(daemon)).toContain('Z');
    expect(await attacher.find(request())).not.toMatchObject({ state: 'dead' });
  } finally {
    sh('fsfreeze', '--unfreeze', store);
  }
  await expect.poll(() => attacher.find(request())).toMatchObject({ state: 'dead' });
  await written;
  await attacher.detach(request());
  unmount(store);
});

function statesOfThreads(pid: number): string[] {
  const stats = readdirSync(`/proc/${pid}/task`).map((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8'),
  );
  return stats.map((text) => text.charAt(text.lastIndexOf(')') + 2));
}

it('reports a daemon that hangs, again when it goes on, and can detach it', async () => {
  bench.healthTimeoutMs = 1000;
  const attacher = await bench.attacher();
  const device = await attacher.attach(request());
  const daemon = await bench.daemonPid(diskId);
  const state = async () => (await attacher.find(request()))?.state;
  process.kill(daemon, 'SIGSTOP');
  await expect.poll(state, { timeout: 10_000 }).toBe('unresponsive');
  await expect(attacher.attach(request())).rejects.toMatchObject({ code: 'engine-unresponsive' });
  await expect(attacher.prepareHead(diskId, layer, true)).rejects.toMatchObject({ code: 'engine-unresponsive' });
  process.kill(daemon, 'SIGCONT');
  await expect.poll(state, { timeout: 10_000 }).toBe('healthy');
  expect(await attacher.attach(request())).toEqual(device);
  process.kill(daemon, 'SIGSTOP');
  await expect.poll(state, { timeout: 10_000 }).toBe('unresponsive');
  await attacher.detach(request());
  expect(await attacher.find(request())).toBeNull();
});

it.each([
  { other: 'raw', device: 'of a known name' },
  { other: 'qcow2', device: 'of a known name' },
  // As after a restart of the plugin that had the export mounted.
  { other: 'qcow2', device: 'that has lost its name' },
] as const)('attaches another disk, $other, while the daemon below a device $device hangs', async (story) => {
  const attacher = await bench.attacher();
  const { path: held } = await attacher.attach(request());
  const daemon = await bench.daemonPid(diskId);
  const { exportFile } = runDirectory(bench.runDir).daemon(daemonIdOf(diskId));
  if (story.device === 'that has lost its name') sh('umount', '--lazy', exportFile);
  process.kill(daemon, 'SIGSTOP');
  await expect.poll(() => isAnswered(held), { timeout: 30_000 }).toBe(false);
  const other = { diskId: 'other', chain: [bench.image(story.other, size)], viaEngine: false, discard: true };
  const device = await attacher.attach(other);
  expect(await attacher.find(other)).toMatchObject({ device });
  const readOnly = await createReadOnlyLoop(device.path);
  expect(await listReadOnlyLoops(device.path)).toEqual([readOnly]);
  await removeLoopDevice(readOnly);
  await attacher.detach(other);
  process.kill(daemon, 'SIGCONT');
  await attacher.detach(request());
});

it('makes no second device where one without a name that hangs could be the first', async () => {
  const attacher = await bench.attacher();
  const exportOf = (id: string) => runDirectory(bench.runDir).daemon(daemonIdOf(id)).exportFile;
  const { path: held } = await attacher.attach(request());
  const hanging = await bench.daemonPid(diskId);
  sh('umount', '--lazy', exportOf(diskId));
  const other = { diskId: 'other', chain: [bench.image('qcow2', size)], viaEngine: false, discard: true };
  const cutAt = (at: string) => (step: string) => {
    if (step === at) throw new Error('cut');
  };
  const cutOff = async (at: string) =>
    expect((await bench.attacher({ checkpoint: cutAt(at) })).attach(other)).rejects.toThrow('cut');

  await cutOff('attach-engine/daemon-started');
  process.kill(hanging, 'SIGSTOP');
  await expect.poll(() => isAnswered(held), { timeout: 30_000 }).toBe(false);
  await expect(attacher.attach(other)).rejects.toMatchObject({ code: 'timeout' });
  process.kill(hanging, 'SIGCONT');

  // By a mount that is gone afterwards, as that of a plugin that was restarted.
  sh('mount', '--bind', exportOf('other'), exportOf('other'));
  await cutOff('attach-engine/device-made');
  sh('umount', '--lazy', exportOf('other'));
  const first = (await attacher.find(other))?.device;
  process.kill(hanging, 'SIGSTOP');
  expect(await attacher.attach(other)).toEqual(first);
  process.kill(hanging, 'SIGCONT');
  await attacher.detach(other);
  await attacher.detach(request());
});

/**
 * Whether the kernel tells what the file of this device is without waiting for the daemon below. It keeps what it knows of
 * the file for a second. Asked for all devices, it would wait for those of other tests, too.
 */
function isAnswered(device: string): boolean {
  return spawnSync('timeout', ['-s', 'KILL', '2', 'losetup', '--list', '--output', 'BACK-INO', device]).status === 0;
}

it('serves on when the supervisor is killed, and a new one takes over its daemons', async () => {
  const attacher = await bench.attacher();
  const device = await attacher.attach(request());
  const daemon = await bench.daemonPid(diskId);
  await kill(bench.supervisorPid(), 'SIGKILL');
  await write(device.path, 'written without a supervisor');
  // The client starts another one by itself.
  expect(await attacher.find(request())).toEqual({ by: 'fuse', device, state: 'healthy' });
  expect(await bench.daemonPid(diskId)).toBe(daemon);
  expect(await read(device.path, 7)).toBe('written');
  await attacher.detach(request());
});

it('finds a daemon whose supervisor was killed before it noted the process', async () => {
  const attacher = await bench.attacher();
  await attacher.attach(request());
  const daemon = await bench.daemonPid(diskId);
  await kill(bench.supervisorPid(), 'SIGKILL');
  sh('find', bench.runDir, '-name', 'state.json', '-delete');
  expect(await bench.daemonPid(diskId)).toBe(daemon);
  await attacher.detach(request());
});

it('leaves no daemon that nobody knows of where the process cannot be noted, as on a full run directory', async () => {
  const attacher = await bench.attacher();
  const { state } = runDirectory(bench.runDir).daemon(daemonIdOf(diskId));
  // It stands where the note is written.
  mkdirSync(`${state}.new`, { recursive: true });
  await expect(attacher.attach(request())).rejects.toMatchObject({ code: 'engine-unavailable' });
  const daemons = (await processesNaming(bench.directory)).filter(({ command }) => command.includes('storage-daemon'));
  expect(daemons).toEqual([]);
  await attacher.attach(request());
  await attacher.detach(request());
});

it('removes what a supervisor left that was killed in a start or a stop', async () => {
  const { daemons } = runDirectory(bench.runDir);
  await bench.ensureSupervisor();
  await kill(bench.supervisorPid(), 'SIGKILL');
  sh('mkdir', path.join(daemons, '0123456789abcdef'));
  writeFileSync(path.join(daemons, '0123456789abcdef', 'export'), '');
  await bench.ensureSupervisor();
  expect(readdirSync(daemons)).toEqual([]);
});

it('takes no other process for a daemon, though it has its number', async () => {
  const attacher = await bench.attacher();
  await attacher.attach(request());
  const daemon = await bench.daemonPid(diskId);
  await kill(bench.supervisorPid(), 'SIGKILL');
  await kill(daemon, 'SIGKILL');
  const state = sh('find', bench.runDir, '-name', 'state.json').trim();
  writeFileSync(state, JSON.stringify({ pid: process.pid, startTime: 1 }));
  expect(await attacher.find(request())).toMatchObject({ state: 'dead' });
  await attacher.detach(request());
});

it('lets one of many supervisors live', async () => {
  const clients = await Promise.all(Array.from({ length: 5 }, () => bench.ensureSupervisor()));
  expect(await Promise.all(clients.map((client) => client.listDaemons()))).toEqual(clients.map(() => []));
  await expect.poll(() => processesNaming(bench.runDir), { timeout: 10_000 }).toHaveLength(1);
  const second = runSupervisor({
    runDir: bench.runDir,
    idleExitSeconds: null,
    logger: silentLogger,
    signal: new AbortController().signal,
  });
  await expect(second).rejects.toMatchObject({ code: 'pool-locked' });
});

it('lets nobody but its owner talk to the supervisor', async () => {
  await bench.ensureSupervisor();
  expect(statSync(runDirectory(bench.runDir).socket).mode & 0o777).toBe(0o600);
  expect(statSync(bench.runDir).mode & 0o777).toBe(0o700);
});

it('ends when idle, and not while it has a daemon', async () => {
  await bench.ensureSupervisor(1);
  const { socket } = runDirectory(bench.runDir);
  await expect.poll(() => existsSync(socket), { timeout: 30_000 }).toBe(false);
  const client = await bench.ensureSupervisor(1);
  // It may have ended again before it is asked for more: one that comes after it is as impatient.
  const attacher = await bench.attacher({ idleExitSeconds: 1 });
  await attacher.attach(request());
  const supervisor = bench.supervisorPid();
  const busySince = performance.now();
  await expect.poll(() => performance.now() - busySince, { timeout: 5000, interval: 100 }).toBeGreaterThan(2500);
  expect(await client.listDaemons()).toHaveLength(1);
  expect(bench.supervisorPid()).toBe(supervisor);
  await attacher.detach(request());
  await expect.poll(() => existsSync(socket), { timeout: 30_000 }).toBe(false);
});
