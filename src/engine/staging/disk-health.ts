import { LaminaError } from '../../lib/errors.ts';
import type { Attachment } from '../attach/attachment.ts';
import { findUse } from './device-use.ts';
import type { StagingContext } from './staging-port.ts';

type Unhealthy = Exclude<Attachment['state'], 'healthy'>;

/** What is wrong with a disk in use, or with what serves it. */
export interface DiskProblem {
  kind: Unhealthy | 'damaged' | 'writes-paused';
  /** For people. */
  message: string;
}

/** What is wrong with an attached disk; null where nothing is known to be. @throws LaminaError `disk-not-found` */
export async function findProblem({ disks, pauses }: StagingContext, diskId: string): Promise<DiskProblem | null> {
  disks.disk(diskId);
  const attachment = await disks.attachment(diskId);
  if (!attachment) return null;
  const { state, device } = attachment;
  if (state !== 'healthy') return { kind: state, message: textOf(diskId, state) };
  if (!device) return null;
  const { mounts } = await findUse(device);
  const failed = mounts.find(({ options, superOptions }) => options.includes('rw') && superOptions.includes('ro'));
  if (failed) {
    const message = `the file system of disk ${diskId} at ${failed.mountPoint} met errors and is read-only: unpublish and unstage it, then stage it again`;
    return { kind: 'damaged', message };
  }
  if (!pauses.has(diskId)) return null;
  const message = `writes to disk ${diskId} wait, as its pool is nearly full: delete volumes or snapshots, or add space, and they go on`;
  return { kind: 'writes-paused', message };
}

/** The error of whoever needs I/O on a disk whose daemon is not well. */
export function unhealthy(diskId: string, state: Unhealthy): LaminaError {
  return new LaminaError(state === 'dead' ? 'engine-dead' : 'engine-unresponsive', textOf(diskId, state));
}

function textOf(diskId: string, state: Unhealthy): string {
  if (state === 'unresponsive') {
    return `the storage daemon of disk ${diskId} does not answer, and I/O on it stands still. It or its host may be slow; where it hangs, end it with SIGKILL, then unpublish and unstage the disk, and stage it again`;
  }
  return `the storage daemon of disk ${diskId} died, and I/O on it fails: unpublish and unstage it, then stage it again`;
}

/**
 * The last mount of a file system is taken away only when all is written, for which a daemon that does not answer would be
 * waited for without end.
 *
 * @throws LaminaError `engine-unresponsive`
 */
export function requireUnmountable(diskId: string, { state }: Attachment): void {
  if (state === 'unresponsive') throw unhealthy(diskId, state);
}
