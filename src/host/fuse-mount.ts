import { readFile } from 'node:fs/promises';
import { LaminaError } from '../lib/errors.ts';

const timeoutMs = 30_000;

/**
 * Device number (`0:49`) of the FUSE file system mounted at `mountpoint` of this mount namespace, or null. Read from the
 * kernel's table, so that it also answers for a mount whose daemon is dead, on which stat fails.
 */
export async function findFuseMount(mountpoint: string): Promise<string | null> {
  return fuseMountIn(await readFile('/proc/self/mountinfo', 'utf8'), mountpoint);
}

/** @param mountinfo text as of /proc/self/mountinfo, see proc(5). */
export function fuseMountIn(mountinfo: string, mountpoint: string): string | null {
  let device: string | null = null;
  for (const line of mountinfo.split('\n')) {
    const [mount, source] = line.split(' - ');
    const [, , deviceNumber, , escaped] = mount?.split(' ') ?? [];
    if (deviceNumber === undefined || escaped === undefined) continue;
    const isFuse = source?.split(' ')[0]?.startsWith('fuse') ?? false;
    // Later lines are mounted over earlier ones.
    if (unescape(escaped) === mountpoint) device = isFuse ? deviceNumber : null;
  }
  return device;
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

/** The kernel writes space, tab, newline and backslash as octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
