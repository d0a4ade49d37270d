import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { claimUnused } from '../../src/host/block-device.ts';
import { createLoopDevice, removeLoopDevice } from '../../src/host/loop.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { temporaryDirectory } from '../detached-pool.ts';
import { clearBelow } from '../leaks.ts';

let directory: string;
let device: string;
let mountPoint: string;
beforeEach(async () => {
  directory = temporaryDirectory();
  const file = path.join(directory, 'file');
  mountPoint = path.join(directory, 'mounted');
  mkdirSync(mountPoint);
  writeFileSync(file, '');
  truncateSync(file, 16 * MiB);
  execFileSync('mkfs.ext4', ['-q', file]);
  device = await createLoopDevice(file, { directIo: false });
  execFileSync('mount', [device, mountPoint]);
});
afterEach(() => clearBelow(directory));

/** A process in a mount namespace of its own, in which all that is mounted now stays so until it ends. */
async function copyMounts(seconds: number) {
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', String(seconds)]);
  const ended = once(child, 'exit');
  const own = readlinkSync('/proc/self/ns/mnt');
  await expect.poll(() => readlinkSync(`/proc/${child.pid}/ns/mnt`)).not.toBe(own);
  return { child, ended };
}

it('is free as soon as a mount namespace has ended that was made while it was mounted', async () => {
  const { ended } = await copyMounts(0.4);
  execFileSync('umount', [mountPoint]);
  await claimUnused(device, { flush: true });
  await ended;
  await removeLoopDevice(device);
});

it('is in use where it stays mounted in another mount namespace', async () => {
  const { child, ended } = await copyMounts(60);
  execFileSync('umount', [mountPoint]);
  await expect(claimUnused(device, { flush: true })).rejects.toMatchObject({ code: 'disk-in-use' });
  child.kill('SIGKILL');
  await ended;
  await claimUnused(device, { flush: true });
  await removeLoopDevice(device);
});
