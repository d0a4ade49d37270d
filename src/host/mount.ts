import { LaminaError } from '../lib/errors.ts';
import { run, toolFailure } from '../lib/exec.ts';
import { mountsAt, readMounts } from './mountinfo.ts';

/** The journal of a big file system may have to be replayed; all that was written may have to be flushed. */
const timeoutMs = 120_000;

// Every path given here is absolute and without links, as `canonicalPath` makes it; nothing is looked up again.

export async function isMountPoint(mountPoint: string): Promise<boolean> {
  return mountsAt(await readMounts(), mountPoint).length > 0;
}

/** Mounts a block device. @param options as after `mount -o` */
export async function mountDevice(
  device: string,
  mountPoint: string,
  filesystem: { type: string; options: readonly string[] },
): Promise<void> {
  const { type, options } = filesystem;
  const args = ['--no-canonicalize', '--types', type];
  if (options.length > 0) args.push('--options', options.join(','));
  await run('mount', [...args, '--', device, mountPoint], { timeoutMs });
}

/** Makes a directory, or a device file, visible at another place as well. The new mount is as read-only as the old one. */
export async function bindMount(source: string, target: string): Promise<void> {
  await run('mount', ['--no-canonicalize', '--bind', '--', source, target], { timeoutMs });
}

/**
 * Makes the uppermost mount at `target` read-only, whatever its file system's other mounts are, and looks whether it is.
 *
 * @throws LaminaError `tool-failed`
 */
export async function remountReadOnly(target: string): Promise<void> {
  await run('mount', ['--no-canonicalize', '--options', 'remount,bind,ro', '--', target], { timeoutMs });
  if (
    !mountsAt(await readMounts(), target)
      .at(-1)
      ?.options.includes('ro')
  ) {
    throw new LaminaError('tool-failed', `${target}: the kernel did not make the mount read-only`);
  }
}

/**
 * Takes away the uppermost mount at `target`, if there is one.
 *
 * @throws LaminaError `disk-in-use` while somebody uses it
 */
export async function unmountTop(target: string): Promise<void> {
  try {
    await run('umount', ['--no-canonicalize', '--', target], { timeoutMs });
  } catch (error) {
    if (!(await isMountPoint(target))) return;
    if (!isBusy(error)) throw error;
    throw new LaminaError('disk-in-use', `${target} is in use: end the processes that have files open there`, {
      cause: error,
    });
  }
}

/** Takes away everything mounted at `target`. Idempotent. @throws LaminaError `disk-in-use` while somebody uses it */
export async function unmountAll(target: string): Promise<void> {
  for (const _ of mountsAt(await readMounts(), target)) await unmountTop(target);
}

function isBusy(error: unknown): boolean {
  return /target is busy|Device or resource busy/.test(toolFailure(error)?.stderr ?? '');
}
