import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { diskSpace, poolFilesystem } from '../src/host/disk-space.ts';
import {
  createLoopDevice,
  type FileIdentity,
  fileIdentity,
  fileOfLoopDevice,
  isSameFile,
  listLoopDevices,
} from '../src/host/loop.ts';
import { formatBytes } from '../src/lib/bytes.ts';
import { ifErrno } from '../src/lib/errors.ts';
import { run } from '../src/lib/exec.ts';
import { pollUntil } from '../src/lib/poll.ts';
import { processesNaming } from './standalone.ts';

const timeoutMs = 60_000;

export interface WorkspaceOptions {
  /** Where it is made; a short path, because sockets are below it. */
  base: string;
  prefix: string;
  /** What the pool must have room for. */
  neededBytes: number;
}

/** A directory with everything one `lamina standalone` needs, which can be removed with all that was made in it. */
export interface Workspace {
  directory: string;
  pool: string;
  /** `ext4`, `xfs`, `btrfs` */
  filesystem: string;
  /** Whether the pool had to be made on a loop device, because the directory's own file system cannot hold one. */
  onImage: boolean;
  runDir: string;
  socket: string;
  /** For staging and target paths. */
  mounts: string;
}

/** @throws where there is not enough room */
export async function makeWorkspace({ base, prefix, neededBytes }: WorkspaceOptions): Promise<Workspace> {
  const directory = await mkdtemp(path.join(base, prefix));
  try {
    const { availableBytes } = await diskSpace(directory);
    if (availableBytes < neededBytes) {
      throw new Error(`${base} has ${formatBytes(availableBytes)} free, ${formatBytes(neededBytes)} are needed`);
    }
    const at = (name: string) => path.join(directory, name);
    const workspace = { directory, pool: at('pool'), runDir: at('run'), socket: at('csi.sock'), mounts: at('mounts') };
    for (const made of [workspace.pool, workspace.runDir, workspace.mounts]) await mkdir(made);
    const own = await poolFilesystem(directory);
    if (!own) await mountImage(directory, workspace.pool, neededBytes);
    return { ...workspace, filesystem: own ?? 'ext4', onImage: !own };
  } catch (error) {
    await removeWorkspace(directory);
    throw error;
  }
}

/**
 * Takes away whatever is left of a workspace: mounts, loop devices, processes, files; the same after success, failure
 * and kill -9. A disk's device goes before its daemon, so that nothing waits for a dead one.
 *
 * @throws with a list of what could not be taken away
 */
export async function removeWorkspace(directory: string): Promise<void> {
  const pool = path.join(directory, 'pool');
  const runDir = path.join(directory, 'run');
  await unmountBelow(directory, (mount) => mount !== pool && !mount.startsWith(`${runDir}/`));
  await removeLoopDevices(await ownLoopDevices(directory, { poolImage: false }));
  await endProcesses(runDir);
  await unmountBelow(directory, () => true);
  await removeLoopDevices(await ownLoopDevices(directory, { poolImage: true }));
  const left = await leftovers(directory);
  if (left.length > 0) throw new Error(`left behind in ${directory}:\n${left.join('\n')}`);
  await rm(directory, { recursive: true, force: true });
}

/** What still runs, is mounted or has a device in a workspace, for a person to read. */
export async function leftovers(directory: string): Promise<string[]> {
  const processes = await processesNaming(path.join(directory, 'run'));
  const mounts = await mountsBelow(directory);
  const devices = await ownLoopDevices(directory, { poolImage: true });
  return [
    ...processes.map(({ pid, command }) => `process ${pid}: ${command}`),
    ...mounts.map(({ mountpoint }) => `mount ${mountpoint}`),
    ...devices.map((device) => `loop device ${device}`),
  ];
}

async function mountImage(directory: string, mountpoint: string, sizeBytes: number): Promise<void> {
  const image = path.join(directory, imageName);
  await run('truncate', ['--size', String(sizeBytes), image], { timeoutMs });
  await run('mkfs.ext4', ['-q', '-m', '0', image], { timeoutMs });
  const device = await createLoopDevice(image, { directIo: false });
  await run('mount', ['-t', 'ext4', device, mountpoint], { timeoutMs });
}

const imageName = 'pool.ext4';

interface Mount {
  mountpoint: string;
  /** `0:49` */
  device: string;
  filesystem: string;
}

/** Mounts of this mount namespace below `directory`, the last one first. */
async function mountsBelow(directory: string): Promise<Mount[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).trim().split('\n');
  const mounts = lines.map((line) => {
    const [mount = '', source = ''] = line.split(' - ');
    const [, , device = '', , mountpoint = ''] = mount.split(' ');
    return { device, mountpoint, filesystem: source.split(' ')[0] ?? '' };
  });
  return mounts.filter(({ mountpoint }) => mountpoint.startsWith(`${directory}/`)).toReversed();
}

async function unmountBelow(directory: string, which: (mountpoint: string) => boolean): Promise<void> {
  for (const { mountpoint } of await mountsBelow(directory)) {
    // Lazily where something still has a file open; the device is then waited for.
    const force = async () => run('umount', ['--lazy', '--no-canonicalize', mountpoint], { timeoutMs });
    if (which(mountpoint)) await run('umount', ['--no-canonicalize', mountpoint], { timeoutMs }).catch(force);
  }
}

/** Loop devices on files of the workspace and on FUSE exports in it, by numbers, since names differ between mount namespaces. */
async function ownLoopDevices(directory: string, { poolImage }: { poolImage: boolean }): Promise<string[]> {
  const identify = (file: string) => fileIdentity(file).catch(() => null);
  const image = await identify(path.join(directory, imageName));
  const files = await Promise.all(
    [...(await filesIn(directory, false)), ...(await filesIn(`${directory}/pool`, true))].map(identify),
  );
  const exports = (await mountsBelow(directory)).filter(({ filesystem }) => filesystem.startsWith('fuse'));
  const isOwn = async ({ path: device }: { path: string }) => {
    // What does not answer is somebody else's: nothing hangs in a workspace that is looked at.
    const backing = await fileOfLoopDevice(device, 5000).catch(() => null);
    if (backing === null) return false;
    const isOn = (file: FileIdentity | null) => isSameFile(file, backing);
    if (isOn(image)) return poolImage;
    return files.some(isOn) || exports.some(({ device: number }) => number === backing.device);
  };
  const devices = await listLoopDevices();
  const own = await Promise.all(devices.map(isOwn));
  return devices.filter((_, index) => own[index]).map((device) => device.path);
}

async function filesIn(directory: string, recursive: boolean): Promise<string[]> {
  const entries = await readdir(directory, { recursive, withFileTypes: true }).catch(ifErrno('ENOENT', []));
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
}

async function removeLoopDevices(devices: readonly string[]): Promise<void> {
  for (const device of devices) await run('losetup', ['--detach', device], { timeoutMs });
  const isGone = async () => !(await listLoopDevices()).some(({ path: name }) => devices.includes(name));
  await pollUntil(isGone, { timeoutMs: 10_000, intervalMs: 50 });
}

async function endProcesses(runDir: string): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const { pid } of await processesNaming(runDir)) killIfThere(pid, signal);
    const isGone = async () => (await processesNaming(runDir)).length === 0;
    if (await pollUntil(isGone, { timeoutMs: 5000, intervalMs: 20 })) return;
  }
}

export function killIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
