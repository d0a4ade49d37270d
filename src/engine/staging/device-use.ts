import { stat } from 'node:fs/promises';
import path from 'node:path';
import { deviceNumber } from '../../host/block-device.ts';
import { removeLoopDevice } from '../../host/loop.ts';
import { blockDeviceOf, coveredDirectory, type Mount, mountsOf, readMounts } from '../../host/mountinfo.ts';
import { listReadOnlyLoops } from '../../host/read-only-loop.ts';
import type { BlockDevice } from '../attach/attachment.ts';

/** Where a block device is visible on this node, as the kernel says. */
export interface DeviceUse {
  /** Of its file system, lowest first; bind mounts of parts of it too. */
  mounts: Mount[];
  /** Its device node bound to files. */
  nodes: { mount: Mount; readOnly: boolean }[];
  /** Read-only devices on it, as paths. */
  readOnlyDevices: string[];
  /** All mounts of this mount namespace, of which these are some. */
  all: Mount[];
}

/** `7:3` */
export function numberOf({ major, minor }: BlockDevice): string {
  return `${major}:${minor}`;
}

export async function findUse(device: BlockDevice): Promise<DeviceUse> {
  const all = await readMounts();
  const readOnlyDevices = await listReadOnlyLoops(device.path);
  const nodes = [];
  for (const mount of all) {
    const bound = await boundDevice(mount, [device.path, ...readOnlyDevices]);
    if (bound !== null) nodes.push({ mount, readOnly: bound !== device.path });
  }
  return { mounts: await mountsOf(all, numberOf(device)), nodes, readOnlyDevices, all };
}

/** Which of `devices` a mount is a bind mount of, or null. */
async function boundDevice(mount: Mount, devices: readonly string[]): Promise<string | null> {
  if (!isDeviceNode(mount)) return null;
  const name = path.basename(nodePath(mount));
  const candidate = devices.find((device) => path.basename(device) === name);
  if (candidate === undefined) return null;
  const [seen, wanted] = await Promise.all([rdevOf(mount.mountPoint), rdevOf(candidate)]);
  return seen !== null && seen === wanted ? candidate : null;
}

/** A single file of a /dev, mounted somewhere. Asked without touching it: it may be on something that hangs. */
function isDeviceNode(mount: Mount): boolean {
  return ['devtmpfs', 'tmpfs'].includes(mount.fsType) && mount.root !== '/';
}

function nodePath(mount: Mount): string {
  return mount.root.replace(/\/\/deleted$/, '');
}

async function rdevOf(file: string): Promise<string | null> {
  const found = await stat(file, { bigint: true });
  return found.isBlockDevice() ? deviceNumber(found.rdev) : null;
}

/** Whether a mount shows a loop or NBD device, the only ones this program makes. For disks whose device is not known. */
export async function mayBeOurs(mount: Mount): Promise<boolean> {
  if (isDeviceNode(mount)) return /^(loop|nbd)[0-9]+$/.test(path.basename(nodePath(mount)));
  const major = (await blockDeviceOf(mount))?.split(':')[0];
  return major === '7' || major === '43';
}

/** Paths where the disk is visible besides those in `except`; one that is seen through two bind mounts counts once. */
export function otherPlaces(use: DeviceUse, except: readonly string[]): string[] {
  const mounts = [...use.mounts, ...use.nodes.map(({ mount }) => mount)];
  const excepted = new Set(
    mounts.filter(({ mountPoint }) => except.includes(mountPoint)).map((mount) => coveredDirectory(use.all, mount)),
  );
  const others = mounts.filter((mount) => !excepted.has(coveredDirectory(use.all, mount)));
  return [...new Map(others.map((mount) => [coveredDirectory(use.all, mount), mount.mountPoint])).values()];
}

/** Removes the read-only devices that are bound nowhere. @returns how many there were */
export async function removeUnusedReadOnlyDevices(device: BlockDevice): Promise<number> {
  const { nodes, readOnlyDevices } = await findUse(device);
  const bound = new Set(nodes.map(({ mount }) => path.basename(nodePath(mount))));
  const unused = readOnlyDevices.filter((readOnly) => !bound.has(path.basename(readOnly)));
  for (const readOnly of unused) await removeLoopDevice(readOnly);
  return unused.length;
}
