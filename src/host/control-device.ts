import { open, readFile } from 'node:fs/promises';
import { errnoOf, isLaminaError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { deviceNumber } from './block-device.ts';

const timeoutMs = 30_000;

/** A device file by which a part of the kernel is asked for devices or mounts. */
export interface ControlDevice {
  path: string;
  /** Fixed for ever (linux/miscdevice.h). */
  number: string;
  /** What brings it, unless the kernel has it built in. */
  module: string;
  /** What people call what it gives. */
  gives: string;
}

export const loopControl: ControlDevice = {
  path: '/dev/loop-control',
  number: '10:237',
  module: 'loop',
  gives: 'loop devices',
};
export const fuseControl: ControlDevice = { path: '/dev/fuse', number: '10:229', module: 'fuse', gives: 'FUSE' };

/**
 * Why a device cannot be used from here and what to do, as a clause for people; null where it can. Where only the module
 * is missing, it is loaded.
 */
export async function findFault(device: ControlDevice): Promise<string | null> {
  // Where the file is there, the kernel loads the module by itself.
  if ((await look(device)) === 'usable') return null;
  await loadModule(device.module);
  const found = await look(device);
  if (found === 'usable') return null;
  const { path, module, gives } = device;
  if (!(await isInKernel(device))) {
    return `${path} is missing, as the node's kernel has no ${gives}: load the module on the node, at every start of it (modprobe ${module})`;
  }
  if (found === 'forbidden') return `${path} may not be opened here: run the container privileged`;
  return `${path} is ${found}, though the node's kernel has ${gives}: mount the node's /dev into the container`;
}

async function look({ path, number }: ControlDevice): Promise<'usable' | 'missing' | 'another file' | 'forbidden'> {
  try {
    await using handle = await open(path, 'r+');
    const { rdev } = await handle.stat({ bigint: true });
    return deviceNumber(rdev) === number ? 'usable' : 'another file';
  } catch (error) {
    const errno = errnoOf(error) ?? '';
    if (['EPERM', 'EACCES'].includes(errno)) return 'forbidden';
    // ENODEV, ENXIO: a file that no module stands behind.
    if (['ENOENT', 'ENODEV', 'ENXIO'].includes(errno)) return 'missing';
    // A directory, as container engines make for a path that is not there.
    if (errno === 'EISDIR') return 'another file';
    throw error;
  }
}

async function loadModule(module: string): Promise<void> {
  try {
    await run('modprobe', [module], { timeoutMs });
  } catch (error) {
    // No such module, or no modprobe.
    if (!isLaminaError(error, 'tool-failed', 'tool-missing')) throw error;
  }
}

/** The kernel's own list, whatever /dev this is. */
async function isInKernel({ number }: ControlDevice): Promise<boolean> {
  const minor = number.split(':')[1];
  const lines = (await readFile('/proc/misc', 'utf8')).split('\n');
  return lines.some((line) => line.trim().split(' ')[0] === minor);
}
