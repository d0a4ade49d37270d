import { constants } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf, LaminaError } from '../lib/errors.ts';

/**
 * What was just unmounted is still mounted in a mount namespace that was made, as one is for each container that starts,
 * until that follows or ends.
 */
const releaseMs = 3000;

/** `8:1` as in /proc and /sys, of a `st_dev` or `st_rdev`. */
export function deviceNumber(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/** Major and minor number of the block device at `device`. */
export async function blockDeviceNumber(device: string): Promise<{ major: number; minor: number }> {
  const found = await stat(device, { bigint: true });
  if (!found.isBlockDevice())
    throw new LaminaError('tool-failed', `${device} is no block device: /dev is not the host's`);
  const [major = 0, minor = 0] = deviceNumber(found.rdev).split(':').map(Number);
  return { major, minor };
}

/** Size as the kernel has it now. */
export async function blockDeviceSizeBytes(device: string): Promise<number> {
  const sectors = await readFile(path.join(sysfsOf(device), 'size'), 'utf8');
  return Number(sectors) * 512;
}

/**
 * The kernel's number for this life of a device, never used twice in a boot, so that `loop3` then and `loop3` now can be
 * told apart. Null before Linux 5.15, or where there is no such device.
 */
export async function blockDeviceSequence(device: string): Promise<string | null> {
  return readAttribute(device, 'diskseq');
}

/** What the kernel says of a device, such as `loop/autoclear`; null where it does not, as of a device that is gone meanwhile. */
export async function readAttribute(device: string, name: string): Promise<string | null> {
  try {
    return (await readFile(path.join(sysfsOf(device), name), 'utf8')).trim();
  } catch (error) {
    // Not bound, or taken away while it was read.
    if (['ENOENT', 'ENXIO', 'ENODEV'].includes(errnoOf(error) ?? '')) return null;
    throw error;
  }
}

/** `/sys/block/loop3` of `/dev/loop3`. */
export function sysfsOf(device: string): string {
  return path.join('/sys/block', path.basename(device));
}

/**
 * Makes sure that nobody uses a device.
 * @param flush whether to write out and flush what the kernel holds of it, which waits for whatever is below.
 * @throws LaminaError `disk-in-use` where it is mounted, in whatever mount namespace, or claimed otherwise; EIO where what
 *   is below is dead.
 */
export async function claimUnused(device: string, { flush }: { flush: boolean }): Promise<void> {
  const handle = await openAlone(device);
  // Closing writes out too. Below a daemon that hangs that ends with the daemon, and with it what was held is lost anyway.
  if (!flush) return void handle.close().catch(() => {});
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function openAlone(device: string): Promise<FileHandle> {
  const endMs = performance.now() + releaseMs;
  for (;;) {
    try {
      return await open(device, constants.O_RDWR | constants.O_EXCL);
    } catch (error) {
      if (errnoOf(error) !== 'EBUSY') throw error;
      if (performance.now() >= endMs) throw inUse(device, error);
    }
    await delay(20);
  }
}

function inUse(device: string, cause: unknown): LaminaError {
  const message = `${device} is in use (mounted, or held by another device): unmount it first`;
  return new LaminaError('disk-in-use', message, { cause });
}
