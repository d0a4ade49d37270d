import { LaminaError } from '../../lib/errors.ts';
import type { Attachment } from '../attach/attachment.ts';
import { findUse } from './device-use.ts';
import type { StagingContext } from './staging-port.ts';

type Unhealthy = Exclude<Attachment['state'], 'healthy'>;

/** What is wrong with an attached disk, for people; null where nothing is known to be. @throws LaminaError `disk-not-found` */
export async function health({ disks }: StagingContext, diskId: string): Promise<string | null> {
  disks.disk(diskId);
  const attachment = await disks.attachment(diskId);
  if (!attachment) return null;
  if (attachment.state !== 'healthy') return textOf(diskId, attachment.state);
  if (!attachment.device) return null;
  const { mounts } = await findUse(attachment.device);
  const failed = mounts.find(({ options, superOptions }) => options.includes('rw') && superOptions.includes('ro'));
  if (!failed) return null;
  return `the file system of disk ${diskId} at ${failed.mountPoint} met errors and is read-only: unpublish and unstage it, then stage it again`;
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
