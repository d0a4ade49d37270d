import { access, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { errnoOf, ifErrno, LaminaError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { pollUntil } from '../lib/poll.ts';
import { deviceNumber, sysfsOf } from './block-device.ts';

const timeoutMs = 30_000;
/** For others' short looks at a device (blkid, udev) to end. */
const releaseMs = 3000;

/** A file by what does not change with names and mount namespaces. */
export interface FileIdentity {
  inode: number;
  /** `8:1` */
  device: string;
}

export async function fileIdentity(file: string): Promise<FileIdentity> {
  const { ino, dev } = await stat(file, { bigint: true });
  return { inode: Number(ino), device: deviceNumber(dev) };
}

const listing = z.object({
  loopdevices: z.array(
    z.object({ name: z.string(), 'back-ino': z.coerce.number(), 'back-maj:min': z.string(), autoclear: z.coerce.boolean() }),
  ),
});

export interface LoopDevice {
  /** `/dev/loop3` */
  path: string;
  backing: FileIdentity;
  /** It goes away when its last user closes it: an earlier removal found it in use. */
  closing: boolean;
}

/** All loop devices that have a file. */
export async function listLoopDevices(): Promise<LoopDevice[]> {
  const columns = 'NAME,BACK-INO,BACK-MAJ:MIN,AUTOCLEAR';
  const { stdout } = await run('losetup', ['--json', '--list', '--output', columns], { timeoutMs });
  return stdout.trim() === '' ? [] : parseLoopDevices(stdout);
}

/** @param json what `losetup --json --list` prints with the columns above. */
export function parseLoopDevices(json: string): LoopDevice[] {
  return listing.parse(JSON.parse(json)).loopdevices.map((device) => ({
    path: path.join('/dev', path.basename(device.name)),
    backing: { inode: device['back-ino'], device: device['back-maj:min'].replaceAll(' ', '') },
    closing: device.autoclear,
  }));
}

/**
 * The loop device on a file, or null.
 * @throws LaminaError `disk-in-use` where it is about to go away but somebody has it open.
 */
export async function findLoopDevice(backing: FileIdentity): Promise<string | null> {
  const isOnFile = (device: LoopDevice) =>
    device.backing.inode === backing.inode && device.backing.device === backing.device;
  const found = (await listLoopDevices()).filter(isOnFile);
  const [device] = found.filter((candidate) => !candidate.closing).concat(found);
  if (device?.closing) throw stillOpen(device.path);
  return device?.path ?? null;
}

/** Puts a new loop device on a file. `directIo` is given up silently where the file does not allow it. @returns its path. */
export async function createLoopDevice(file: string, options: { directIo: boolean }): Promise<string> {
  const directIo = `--direct-io=${options.directIo ? 'on' : 'off'}`;
  const { stdout } = await run('losetup', ['--find', '--show', directIo, file], { timeoutMs });
  const device = stdout.trim();
  await access(device);
  return device;
}

/** Makes the device as big as its file is now. */
export async function refreshLoopCapacity(device: string): Promise<void> {
  await run('losetup', ['--set-capacity', device], { timeoutMs });
}

/** Whether the device passes I/O by the page cache. */
export async function hasDirectIo(device: string): Promise<boolean> {
  return (await readFile(path.join(sysfsOf(device), 'loop/dio'), 'utf8')).trim() === '1';
}

/** Makes the kernel refuse discards, so that no mkfs or fstrim can punch holes into a preallocated file. */
export async function disableDiscard(device: string): Promise<void> {
  await writeFile(path.join(sysfsOf(device), 'queue/discard_max_bytes'), '0');
}

/**
 * Removes a loop device. The kernel answers "done" also when somebody has it open, and removes it later; so this looks.
 * @throws LaminaError `disk-in-use` where it still is there: it goes when its user closes it.
 */
export async function removeLoopDevice(device: string): Promise<void> {
  await run('losetup', ['--detach', device], { timeoutMs });
  const isGone = async () => !(await hasBacking(device));
  if (!(await pollUntil(isGone, { timeoutMs: releaseMs, intervalMs: 10 }))) throw stillOpen(device);
}

/** Whether a file is behind the device now. */
export async function hasBacking(device: string): Promise<boolean> {
  const file = path.join(sysfsOf(device), 'loop/backing_file');
  try {
    return (await readFile(file, 'utf8').catch(ifErrno('ENOENT', null))) !== null;
  } catch (error) {
    // Taken away while it was read.
    if (errnoOf(error) === 'ENXIO' || errnoOf(error) === 'ENODEV') return false;
    throw error;
  }
}

function stillOpen(device: string): LaminaError {
  return new LaminaError('disk-in-use', `${device} is open: it goes away when whoever has it open closes it; then try again`);
}
