import { LaminaError } from '../lib/errors.ts';
import { type Mount, mountsAt, readMounts } from './mountinfo.ts';

const timeoutMs = 30_000;
const connections = '/sys/fs/fuse/connections';

/**
 * Device number (`0:49`) of the FUSE file system mounted at `mountpoint` of this mount namespace, or null. Read from the
 * kernel's table, so that it also answers for a mount whose daemon is dead, on which stat fails.
 */
export async function findFuseMount(mountpoint: string): Promise<string | null> {
  return fuseMountIn(await readMounts(), mountpoint);
}

/** The uppermost mount at `mountpoint` decides: what lies over an export hides it. */
export function fuseMountIn(mounts: readonly Mount[], mountpoint: string): string | null {
  const seen = mountsAt(mounts, mountpoint).at(-1);
  return seen?.fsType.startsWith('fuse') ? seen.device : null;
}

/**
 * Lets so many reads and writes of a mounted FUSE file system be in flight that come without somebody who waits for each,
 * as a loop device's do; the kernel lets 12 and holds the others back. The one place for it is a file system that containers
 * do not have mounted, so it is mounted where nobody else sees it, and where what is unmounted meanwhile is unmounted, too.
 */
export async function setMaxBackground(device: string, requests: number): Promise<void> {
  const connection = device.split(':')[1] ?? '';
  const { run } = await import('../lib/exec.ts');
  const write = `mount -t fusectl none ${connections} && echo "$2" >"${connections}/$1/max_background"`;
  const shell = ['sh', '-c', write, 'sh', connection, String(requests)];
  await run('unshare', ['--mount', '--propagation', 'slave', ...shell], { timeoutMs });
}

/**
 * Unmounts a FUSE export, as often as it is mounted. A dead one goes at once.
 * @throws LaminaError `disk-in-use` while somebody, a loop device too, has the exported file open.
 */
export async function unmountFuseIfMounted(mountpoint: string): Promise<void> {
  while ((await findFuseMount(mountpoint)) !== null) {
    // Daemons unmount at their end; only for one that was killed does the supervisor load this.
    const { run, toolFailure } = await import('../lib/exec.ts');
    try {
      await run('umount', ['--no-canonicalize', mountpoint], { timeoutMs });
    } catch (error) {
      if (!toolFailure(error)?.stderr.includes('target is busy')) throw error;
      throw new LaminaError('disk-in-use', `the export at ${mountpoint} is in use: remove the device on it first`, {
        cause: error,
      });
    }
  }
}
