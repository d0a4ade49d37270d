import { makeFilesystem } from '../../host/filesystem.ts';
import { probeContent } from '../../host/probe.ts';
import { LaminaError } from '../../lib/errors.ts';
import { type FilesystemType, filesystemTypes } from '../../store/records.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import type { StagingContext } from './staging-port.ts';

const defaultType: FilesystemType = 'ext4';

/** @throws LaminaError `invalid-parameter` */
export function requireFilesystemType(fsType: string | null): FilesystemType | null {
  if (fsType === null) return null;
  const known = filesystemTypes.find((type) => type === fsType);
  if (known) return known;
  throw new LaminaError('invalid-parameter', `file system '${fsType}' is not known: use ${filesystemTypes.join(', ')}`);
}

/**
 * Finds the file system of an attached disk, or makes one on a blank disk. Nothing that anybody could have written is
 * ever overwritten: only a disk that is blank, or whose own first file system was not finished.
 *
 * @throws LaminaError `filesystem-mismatch`, `filesystem-unknown`, `size-out-of-range`, `disk-damaged`
 */
export async function ensureFilesystem(
  context: StagingContext,
  { diskId, device }: { diskId: string; device: BlockDevice },
  wanted: FilesystemType | null,
): Promise<FilesystemType> {
  const { filesystem: recorded } = context.disks.disk(diskId);
  if (recorded?.state === 'formatting') {
    return format(context, { diskId, device }, { type: wanted ?? recorded.type, overwrite: true });
  }
  const content = await probeContent(device.path, (signal) => context.disks.writtenExtents(diskId, signal));
  if (content.kind === 'blank') {
    if (recorded) throw damaged(diskId, recorded.type);
    return format(context, { diskId, device }, { type: wanted ?? defaultType, overwrite: false });
  }
  if (content.kind === 'unread') throw unread(diskId);
  if (content.kind === 'other') throw unknown(diskId, content.what);
  const type = filesystemTypes.find((known) => known === content.type);
  if (!type) {
    if (wanted) throw mismatch(diskId, wanted, content.type);
    throw unknown(diskId, `a ${content.type} file system`);
  }
  if (wanted && wanted !== type) throw mismatch(diskId, wanted, type);
  if (recorded?.type !== type) await context.disks.recordFilesystem(diskId, { type, state: 'formatted' });
  return type;
}

async function format(
  { disks, checkpoint }: StagingContext,
  { diskId, device }: { diskId: string; device: BlockDevice },
  { type, overwrite }: { type: FilesystemType; overwrite: boolean },
): Promise<FilesystemType> {
  // A copy of a disk without a file system may still have something on it that was not seen.
  const isZeroed = !overwrite && disks.disk(diskId).source === null;
  await disks.recordFilesystem(diskId, { type, state: 'formatting' });
  checkpoint('stage/format-recorded');
  try {
    await makeFilesystem({ device: device.path, type, isZeroed, overwrite });
  } catch (error) {
    // Refused before anything was written.
    if (error instanceof LaminaError && error.code === 'size-out-of-range' && !overwrite) {
      await disks.recordFilesystem(diskId, null);
    }
    throw error;
  }
  checkpoint('stage/formatted');
  await disks.recordFilesystem(diskId, { type, state: 'formatted' });
  checkpoint('stage/filesystem-recorded');
  return type;
}

function mismatch(diskId: string, wanted: string, found: string): LaminaError {
  return new LaminaError(
    'filesystem-mismatch',
    `disk ${diskId} was to be mounted as ${wanted} and has ${found} on it: ask for ${found}, or copy the files to a new volume`,
  );
}

function unknown(diskId: string, what: string): LaminaError {
  return new LaminaError(
    'filesystem-unknown',
    `disk ${diskId} has ${what} on it, and nothing was overwritten: use it as a block volume, or empty it there first`,
  );
}

function unread(diskId: string): LaminaError {
  return new LaminaError(
    'filesystem-unknown',
    `disk ${diskId} has no file system, and whether it is blank cannot be told in time, as too much was written to it; nothing was overwritten: use it as a block volume, or make a file system on it there`,
  );
}

function damaged(diskId: string, type: string): LaminaError {
  return new LaminaError(
    'disk-damaged',
    `disk ${diskId} had ${type} on it, and now its beginning is empty: restore a snapshot, or look at it as a block volume`,
  );
}
