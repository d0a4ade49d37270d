import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, LaminaError } from '../lib/errors.ts';
import { deviceNumber } from './block-device.ts';

/** One line of /proc/self/mountinfo, see proc(5); names are as they are, without escapes. */
export interface Mount {
  id: number;
  parentId: number;
  /** `7:3`; for a btrfs a number that is no block device's, see `blockDeviceOf`. */
  device: string;
  /** What of the file system is mounted: `/` for all of it, another path for a bind mount of a part. */
  root: string;
  mountPoint: string;
  /** Of this mount alone: `rw`, `nosuid`, … */
  options: string[];
  fsType: string;
  source: string;
  /** Of the whole file system, wherever it is mounted. */
  superOptions: string[];
}

/** Every mount of this process's mount namespace; later ones lie over earlier ones. */
export async function readMounts(): Promise<Mount[]> {
  return parseMountinfo(await readFile('/proc/self/mountinfo'));
}

/** @throws LaminaError `tool-failed` for a line that is none of mountinfo's */
export function parseMountinfo(content: Buffer): Mount[] {
  // As bytes: a name need not be UTF-8, and an escape stands for a byte, not for a character.
  return content
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine);
}

function parseLine(line: string): Mount {
  const fields = line.split(' ');
  // Between the six fixed fields and the dash are as many optional ones as there happen to be.
  const dash = fields.indexOf('-', 6);
  const [id, parentId, device, root, mountPoint, options] = fields;
  const [fsType, source, ...superOptions] = fields.slice(dash + 1);
  if (dash < 0 || device === undefined || root === undefined || mountPoint === undefined || source === undefined) {
    throw new LaminaError('tool-failed', `/proc/self/mountinfo has a line that cannot be read: ${line}`);
  }
  return {
    id: Number(id),
    parentId: Number(parentId),
    device,
    root: unescapeName(root),
    mountPoint: unescapeName(mountPoint),
    options: (options ?? '').split(','),
    fsType: unescapeName(fsType ?? ''),
    source: unescapeName(source),
    superOptions: unescapeName(superOptions.join(' ')).split(','),
  };
}

/** Undoes the kernel's octal escapes (space, tab, newline, backslash, hash). @param text one character a byte */
function unescapeName(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** What is mounted at `mountPoint` (absolute, without links), lowest first: the last one is what is seen. */
export function mountsAt(mounts: readonly Mount[], mountPoint: string): Mount[] {
  return mounts.filter((mount) => mount.mountPoint === mountPoint);
}

/** All mounts of the file system on the block device with this number (`7:3`). */
export async function mountsOf(mounts: readonly Mount[], device: string): Promise<Mount[]> {
  const devices = await Promise.all(mounts.map(blockDeviceOf));
  return mounts.filter((_, index) => devices[index] === device);
}

/** Number of the block device a mount lives on; null where it lives on none, or on one that is gone. */
export async function blockDeviceOf(mount: Mount): Promise<string | null> {
  if (!mount.device.startsWith('0:')) return mount.device;
  // A btrfs can span devices, so it has a number of its own; what it was mounted from is the name of one of them.
  if (mount.fsType !== 'btrfs') return null;
  try {
    const source = await stat(mount.source, { bigint: true });
    return source.isBlockDevice() ? deviceNumber(source.rdev) : null;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return null;
  }
}

/**
 * The directory that a mount covers, as file system and path inside it. Two mounts with the same one are one mount
 * seen twice, through two bind mounts of a directory above.
 */
export function coveredDirectory(mounts: readonly Mount[], mount: Mount): string {
  const parent = mounts.find(({ id }) => id === mount.parentId);
  if (!parent) return mount.mountPoint;
  return `${parent.device} ${path.join(parent.root, path.relative(parent.mountPoint, mount.mountPoint))}`;
}
