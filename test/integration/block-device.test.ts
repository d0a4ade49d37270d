import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { claimUnused, readAttribute } from '../../src/host/block-device.ts';
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

/** A process in a mount namespace of its own, in which all that is mounted now stays so until it is ended. */
async function copyMounts() {
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', '60']);
  const ended = once(child, 'exit');
  const own = readlinkSync('/proc/self/ns/mnt');
  await expect.poll(() => readlinkSync(`/proc/${child.pid}/ns/mnt`)).not.toBe(own);
  return { child, ended };
}

it('is free as soon as a mount namespace has ended that was made while it was mounted', async () => {
  const { child, ended } = await copyMounts();
  execFileSync('umount', [mountPoint]);
  setTimeout(() => child.kill('SIGKILL'), 400);
  await claimUnused(device, { flush: true });
  await ended;
  await removeLoopDevice(device);
});

it('is in use where it stays mounted in another mount namespace', async () => {
  const { child, ended } = await copyMounts();
  execFileSync('umount', [mountPoint]);
  await expect(claimUnused(device, { flush: true })).rejects.toMatchObject({ code: 'disk-in-use' });
  child.kill('SIGKILL');
  await ended;
  await claimUnused(device, { flush: true });
  await removeLoopDevice(device);
});

it('is gone once it is taken away, though its name is given to another one at once', async () => {
  execFileSync('umount', [mountPoint]);
  const other = path.join(directory, 'other');
  writeFileSync(other, 'x'.repeat(MiB));
  const open = openSync(device, 'r');
  const taker = spawn('perl', ['-e', takeWhenFree, device, other], { stdio: ['ignore', 'pipe', 'inherit'] });
  const taken = once(taker, 'exit');
  await once(taker.stdout, 'data');
  const removal = removeLoopDevice(device);
  await expect.poll(() => readAttribute(device, 'loop/autoclear')).toBe('1');
  closeSync(open);
  await removal;
  expect(await taken).toEqual([0, null]);
  expect(await readAttribute(device, 'loop/backing_file')).toBe(other);
  await removeLoopDevice(device);
});

/** Says that it runs, and tries to be given the loop device named first for the file named second until it is (LOOP_SET_FD). */
const takeWhenFree = `
  $| = 1;
  print "runs\n";
  open my $file, '+<', $ARGV[1] or die $!;
  for (;;) {
    my $loop;
    exit 0 if open($loop, '+<', $ARGV[0]) && ioctl($loop, 0x4C00, fileno $file);
    $!{EBUSY} || $!{ENXIO} or die $!;
  }`;
