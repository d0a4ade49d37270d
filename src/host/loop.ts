import { access, readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { errnoOf, LaminaError, messageOf } from '../lib/errors.ts';
import { run, toolFailure } from '../lib/exec.ts';
import { pollUntil } from '../lib/poll.ts';
import { blockDeviceSequence, deviceNumber, readAttribute, sysfsOf } from './block-device.ts';

const timeoutMs = 30_000;
/** For a device that is most likely somebody else's. */
const namelessWaitMs = 5000;
const discardLimit = 'queue/discard_max_bytes';
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

/** Null where the kernel cannot ask for the file any more: its FUSE daemon is dead. */
const listing = z.object({
  loopdevices: z.array(
    z.object({ name: z.string(), 'back-ino': z.nullable(z.coerce.number()), 'back-maj:min': z.nullable(z.string()) }),
  ),
});

export interface LoopDevice {
  /** `/dev/loop3` */
  path: string;
  /**
   * Of its file when it was opened, in the mount namespace and below the mount that it was opened by: `/` for a file that
   * is a mount itself, as an export is, once that mount is gone.
   */
  fileName: string;
}

/**
 * All loop devices of the machine that have a file. Reads /sys only: whoever asks a device for its file's identity waits
 * for that file's system, which may be anybody's FUSE daemon that hangs.
 */
export async function listLoopDevices(): Promise<LoopDevice[]> {
  const names = (await readdir('/sys/block')).filter((name) => /^loop[0-9]+$/.test(name));
  const devices = names.map(async (name) => {
    const device = path.join('/dev', name);
    const fileName = await backingName(device);
    return fileName === null ? [] : [{ path: device, fileName }];
  });
  return (await Promise.all(devices)).flat();
}

/**
 * What the file of a loop device is, as its file system says now; null where that is dead, or the device was taken away
 * meanwhile. @throws LaminaError `timeout` where the file system does not answer
 */
export async function fileOfLoopDevice(device: string, waitMs = timeoutMs): Promise<FileIdentity | null> {
  const args = ['--json', '--list', '--output', 'NAME,BACK-INO,BACK-MAJ:MIN', device];
  const stdout = await run('losetup', args, { timeoutMs: waitMs }).then((done) => done.stdout, ifNotThere);
  return stdout.trim() === '' ? null : (parseLoopDevices(stdout)[0]?.backing ?? null);
}

/** @param json what `losetup --json --list` prints with the columns NAME, BACK-INO and BACK-MAJ:MIN. */
export function parseLoopDevices(json: string): { path: string; backing: FileIdentity | null }[] {
  return listing.parse(JSON.parse(json)).loopdevices.map((device) => {
    const { name, 'back-ino': inode, 'back-maj:min': number } = device;
    const backing = inode === null || number === null ? null : { inode, device: number.replaceAll(' ', '') };
    return { path: path.join('/dev', path.basename(name)), backing };
  });
}

/** Path of the loop device on a file, or null. Asks only devices on files of that name. */
export async function findLoopDevice(file: string): Promise<string | null> {
  const identity = await fileIdentity(file);
  for (const { path: device, fileName } of await listLoopDevices()) {
    if (canBeSameFile(fileName, file) && isSameFile(await fileOfLoopDevice(device), identity)) return device;
  }
  return null;
}

/**
 * Path of the loop device on the file that a FUSE file system is mounted at; else of a dead one on a file of just that name; or
 * null. Asks devices on files of that name, and then those that have lost theirs: whether ours is one of these, only an
 * answer of each can tell.
 * @throws LaminaError `timeout` where ours was not found and one of them does not answer
 */
export async function findLoopDeviceOnExport(file: string, identity: FileIdentity): Promise<string | null> {
  const devices = await listLoopDevices();
  let dead: string | null = null;
  for (const { path: device, fileName } of devices) {
    if (!canBeSameFile(fileName, file)) continue;
    const found = await fileOfLoopDevice(device);
    if (isSameFile(found, identity)) return device;
    if (found === null && fileName === file) dead = device;
  }
  const nameless = devices.filter(({ fileName }) => fileName === '/').map(({ path: device }) => device);
  const asked = nameless.map(async (device) =>
    isSameFile(await fileOfLoopDevice(device, namelessWaitMs), identity) ? device : null,
  );
  const answers = await Promise.allSettled(asked);
  const own = answers.find((answer) => answer.status === 'fulfilled' && answer.value !== null);
  if (own?.status === 'fulfilled') return own.value;
  if (dead !== null) return dead;
  for (const answer of answers) if (answer.status === 'rejected') throw answer.reason;
  return null;
}

/**
 * Whether two names of files, of which one may be of another mount namespace and start elsewhere, can mean the same:
 * they end alike.
 */
export function canBeSameFile(one: string, other: string): boolean {
  const [short = [], long = []] = [one.replace(/ \(deleted\)$/, ''), other]
    .map((name) => name.split('/').filter(Boolean))
    .toSorted((left, right) => left.length - right.length);
  const depth = Math.min(short.length, 2);
  return depth > 0 && short.slice(-depth).join('/') === long.slice(-depth).join('/');
}

export function isSameFile(one: FileIdentity | null, other: FileIdentity): boolean {
  return one?.inode === other.inode && one.device === other.device;
}

/** Taken away meanwhile. */
function ifNotThere(error: unknown): '' {
  if (toolFailure(error)) return '';
  throw error;
}

/**
 * Puts a new loop device on a file, that lets discards through. `directIo` is given up silently where the file does not
 * allow it. @returns its path.
 */
export async function createLoopDevice(file: string, options: { directIo: boolean }): Promise<string> {
  const directIo = `--direct-io=${options.directIo ? 'on' : 'off'}`;
  // Always the same: left to itself the kernel takes the unit of direct I/O, which grows from 512 to 4096 bytes when a file
  // on xfs comes to share extents, and what was made on sectors of 512 bytes cannot be mounted then.
  const sectors = '--sector-size=512';
  for (;;) {
    const { stdout } = await run('losetup', ['--find', '--show', sectors, directIo, file], { timeoutMs });
    const device = stdout.trim();
    await access(device);
    if (!(await forbidsDiscard(device))) return device;
    await removeLoopDevice(device);
  }
}

/** Makes the device as big as its file is now. */
export async function refreshLoopCapacity(device: string): Promise<void> {
  await run('losetup', ['--set-capacity', device], { timeoutMs });
}

/** Whether the device passes I/O by the page cache. */
export async function hasDirectIo(device: string): Promise<boolean> {
  return (await readAttribute(device, 'loop/dio')) === '1';
}

/**
 * Makes the kernel refuse discards, so that no mkfs or fstrim can punch holes into a preallocated file.
 *
 * @throws LaminaError `unsupported` where /sys is read-only and stays so
 */
export async function forbidDiscard(device: string): Promise<void> {
  if (await forbidsDiscard(device)) return;
  const limit = path.join(sysfsOf(device), discardLimit);
  try {
    await writeFile(limit, '0');
  } catch (error) {
    if (errnoOf(error) !== 'EROFS') throw error;
    await makeSysfsWritable();
    await writeFile(limit, '0');
  }
}

/**
 * Some container engines give even privileged containers a /sys that is mounted read-only: their own, which they may
 * mount again.
 *
 * @throws LaminaError `unsupported`
 */
async function makeSysfsWritable(): Promise<void> {
  try {
    await run('mount', ['-o', 'remount,rw', '/sys'], { timeoutMs });
  } catch (error) {
    throw new LaminaError(
      'unsupported',
      `preallocated disks are attached so that nothing gives their space back, which takes a writable /sys: mount it so for the plugin (${messageOf(error)})`,
    );
  }
}

async function forbidsDiscard(device: string): Promise<boolean> {
  const most = await readAttribute(device, 'queue/discard_max_hw_bytes');
  return most !== null && most !== '0' && (await readAttribute(device, discardLimit)) === '0';
}

/**
 * Removes a loop device. The kernel answers "done" also when somebody has it open, and removes it later; so this looks.
 * A device of the same name by then may be another one: names are given again at once.
 * @throws LaminaError `disk-in-use` where it still is there: it goes when its user closes it.
 */
export async function removeLoopDevice(device: string): Promise<void> {
  const sequence = await blockDeviceSequence(device);
  await run('losetup', ['--detach', device], { timeoutMs });
  const isGone = async () => !(await isSameLoopDevice(device, sequence));
  if (!(await pollUntil(isGone, { timeoutMs: releaseMs, intervalMs: 10 }))) throw stillOpen(device);
  if (await forbidsDiscard(device)) await retireLoopNumber(device);
}

/**
 * Makes the kernel forget a free device. It keeps the limit of discards with the number, for whoever is given that next,
 * and lets nobody lift it again (since Linux 6.9). losetup has no option for this before 2.41.
 */
async function retireLoopNumber(device: string): Promise<void> {
  const script = 'open my $c, "+<", "/dev/loop-control" or die "$!\\n"; ioctl $c, 0x4C81, 0 + $ARGV[0] or die "$!\\n"';
  try {
    await run('perl', ['-e', script, path.basename(device).replace(/^loop/, '')], { timeoutMs });
  } catch (error) {
    // Somebody was given it meanwhile, or removed it too.
    if (!/resource busy|No such device/.test(toolFailure(error)?.stderr ?? '')) throw error;
  }
}

/** Whether a device is still the one that had this `blockDeviceSequence`, with a file behind it. */
export async function isSameLoopDevice(device: string, sequence: string | null): Promise<boolean> {
  return (await blockDeviceSequence(device)) === sequence && (await backingName(device)) !== null;
}

/** @throws LaminaError `disk-in-use` for a device that an earlier removal found open: it goes away under whoever is given it. */
export async function refuseClosing(device: string): Promise<void> {
  if ((await readAttribute(device, 'loop/autoclear')) === '1') throw stillOpen(device);
}

function backingName(device: string): Promise<string | null> {
  return readAttribute(device, 'loop/backing_file');
}

function stillOpen(device: string): LaminaError {
  return new LaminaError(
    'disk-in-use',
    `${device} is open: it goes away when whoever has it open closes it; then try again`,
  );
}
