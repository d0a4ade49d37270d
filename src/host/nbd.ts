import { access, readdir } from 'node:fs/promises';
import path from 'node:path';
import { ifErrno, isLaminaError, LaminaError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { pollUntil } from '../lib/poll.ts';
import { readAttribute } from './block-device.ts';
import { nbdNetlinkScript } from './nbd-netlink.ts';

const timeoutMs = 30_000;
const releaseMs = 5000;
/**
 * The kernel gives a connection up on which a request takes longer; without this it does after 30 s, which a busy disk
 * can need. A request on its way when the daemon dies waits as long.
 */
const requestTimeoutSeconds = 120;

export interface NbdServer {
  socketPath: string;
  exportName: string;
  /** As many as the server allows, up to this. */
  connections: number;
  /** What the kernel keeps with the device, so that it is found again. Needs Linux 5.14. */
  identifier: string;
}

/** Whether this kernel has network block devices; loads the module where there is one. */
export async function hasKernelNbd(): Promise<boolean> {
  const isLoaded = () => access('/sys/module/nbd').then(() => true, ifErrno('ENOENT', false));
  if (await isLoaded()) return true;
  try {
    await run('modprobe', ['nbd', 'max_part=0'], { timeoutMs });
  } catch (error) {
    // No such module, or no modprobe: this kernel has none to offer.
    if (!isLaminaError(error, 'tool-failed', 'tool-missing')) throw error;
  }
  return isLoaded();
}

/** The device that was connected with `identifier`, or null. */
export async function findNbdDevice(identifier: string): Promise<string | null> {
  const names = (await readdir('/sys/block')).filter((name) => /^nbd[0-9]+$/.test(name));
  for (const name of names) {
    const isConnected = (await readAttribute(name, 'pid')) !== null;
    if (isConnected && (await readAttribute(name, 'backend')) === identifier) return path.join('/dev', name);
  }
  return null;
}

/** Connects a device of the kernel's choice to a server. @returns its path. */
export async function connectNbdDevice(server: NbdServer): Promise<string> {
  const { socketPath, exportName, connections, identifier } = server;
  const args = [socketPath, exportName, String(connections), identifier, String(requestTimeoutSeconds)];
  const index = await netlink(['connect', ...args]);
  if (!/^[0-9]+$/.test(index))
    throw new LaminaError('tool-failed', `nbd connect: wanted a device number, found '${index}'`);
  const device = `/dev/nbd${index}`;
  if (!(await pollUntil(() => exists(device), { timeoutMs: releaseMs, intervalMs: 10 }))) {
    throw new LaminaError('tool-failed', `${device} is connected but not to be seen: /dev is not the host's`);
  }
  return device;
}

/** @throws LaminaError `disk-in-use` where the kernel does not let go of it. */
export async function disconnectNbdDevice(device: string): Promise<void> {
  const connector = await readAttribute(device, 'pid');
  await netlink(['disconnect', indexOf(device)]);
  // Of another process: the device was given again at once.
  const isGone = async () => {
    const now = await readAttribute(device, 'pid');
    return now === null || now !== connector;
  };
  if (await pollUntil(isGone, { timeoutMs: releaseMs, intervalMs: 10 })) return;
  throw new LaminaError(
    'disk-in-use',
    `${device} is still connected ${releaseMs} ms after it was disconnected; try again`,
  );
}

async function netlink(args: string[]): Promise<string> {
  const { stdout } = await run('perl', ['-e', nbdNetlinkScript, '--', ...args], { timeoutMs });
  return stdout.trim();
}

function indexOf(device: string): string {
  return path.basename(device).replace(/^nbd/, '');
}

function exists(file: string): Promise<boolean> {
  return access(file).then(() => true, ifErrno('ENOENT', false));
}
