import { lstat, mkdir, open, readdir, realpath, rmdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, ifErrno, LaminaError } from '../../lib/errors.ts';

/**
 * A caller's path as the kernel writes it in its table of mounts. Links above it are followed, since a node's kubelet
 * directory may be one; the path itself is taken as it is. Null where there is no such directory above it.
 *
 * @throws LaminaError `invalid-parameter` for a path that is not absolute or has no name
 */
export async function canonicalPath(given: string): Promise<string | null> {
  if (!path.isAbsolute(given) || given.includes('\0') || path.resolve(given) === '/') {
    throw new LaminaError(
      'invalid-parameter',
      `path ${JSON.stringify(given)}: an absolute path below the root is needed`,
    );
  }
  const normal = path.resolve(given);
  try {
    return path.join(await realpath(path.dirname(normal)), path.basename(normal));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null;
    throw error;
  }
}

/** Like canonicalPath, with the directories above made where they are missing. */
export async function canonicalPathMakingParents(given: string): Promise<string> {
  const found = await canonicalPath(given);
  if (found !== null) return found;
  await mkdir(path.dirname(path.resolve(given)), { recursive: true, mode: 0o750 });
  const made = await canonicalPath(given);
  if (made === null) throw new LaminaError('path-not-found', `${given}: the directory above it went away`);
  return made;
}

/** Makes the empty directory that is mounted on. @throws LaminaError `target-in-use` where something else is there */
export async function ensureEmptyDirectory(target: string): Promise<void> {
  const found = await lstat(target).catch(ifErrno('ENOENT', null));
  if (!found) await mkdir(target, { mode: 0o750 });
  else if (!found.isDirectory()) throw occupied(target, 'it is no directory');
  else if ((await readdir(target)).length > 0) throw occupied(target, 'it has files in it, which a mount would hide');
}

/** Makes the empty file that a device is bound to. @throws LaminaError `target-in-use` where something else is there */
export async function ensureEmptyFile(target: string): Promise<void> {
  const found = await lstat(target).catch(ifErrno('ENOENT', null));
  if (!found) await (await open(target, 'wx', 0o640)).close();
  else if (!found.isFile() || found.size > 0) throw occupied(target, 'it is no empty file');
}

/** Removes what was mounted on. @throws LaminaError `publish-refused` where it is not empty, or nothing of ours */
export async function removeMountPoint(target: string): Promise<void> {
  const found = await lstat(target).catch(ifErrno('ENOENT', null));
  if (!found) return;
  if (found.isDirectory()) {
    await rmdir(target).catch((error: unknown) => {
      throw errnoOf(error) === 'ENOTEMPTY' ? leftAlone(target, 'it has files in it') : error;
    });
  } else if (found.isFile() && found.size === 0) await unlink(target);
  else throw leftAlone(target, 'it is neither a directory nor an empty file');
}

function occupied(target: string, why: string): LaminaError {
  return new LaminaError('target-in-use', `nothing can be mounted at ${target}: ${why}; move it away`);
}

function leftAlone(target: string, why: string): LaminaError {
  return new LaminaError(
    'publish-refused',
    `${target} was to be removed, and was left alone: nothing of this disk is mounted there and ${why}; move it away`,
  );
}
