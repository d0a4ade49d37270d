import { createHash } from 'node:crypto';
import { mkdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { bindMount, remountReadOnly, unmountAll } from '../../host/mount.ts';
import { ifErrno } from '../../lib/errors.ts';
import type { StagingContext } from './staging-port.ts';

/**
 * A read-only view of a staged file system, to be bound to a target. The kernel makes a bind mount first and
 * read-only in a second call; done at the target, a crash between the two would leave it writable, and like a target that
 * somebody wanted writable. A bind mount of a read-only mount is read-only from the start.
 *
 * @returns its path
 */
export async function makeReadOnlySource(context: StagingContext, diskId: string, staged: string): Promise<string> {
  const source = sourcePath(context, diskId);
  await mkdir(source, { recursive: true, mode: 0o700 });
  await bindMount(staged, source);
  await remountReadOnly(source);
  return source;
}

/** Idempotent; a crash may have left one. */
export async function removeReadOnlySource(context: StagingContext, diskId: string): Promise<void> {
  const source = sourcePath(context, diskId);
  await unmountAll(source);
  await rmdir(source).catch(ifErrno('ENOENT', undefined));
}

function sourcePath({ runDir }: StagingContext, diskId: string): string {
  const name = createHash('sha256').update(diskId).digest('hex').slice(0, 16);
  return path.join(runDir, 'read-only', name);
}
