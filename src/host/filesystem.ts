import { formatBytes, MiB } from '../lib/bytes.ts';
import { LaminaError } from '../lib/errors.ts';
import { run } from '../lib/exec.ts';
import { blockDeviceSizeBytes } from './block-device.ts';

export type FilesystemType = 'ext4' | 'xfs' | 'btrfs';

const mkfsTimeoutMs = 600_000;
const growTimeoutMs = 600_000;

/** What mkfs refuses to go below (ext4 has no such number; this is where it still has room for a journal and data). */
const minimumSizeBytes: Record<FilesystemType, number> = { ext4: 2 * MiB, xfs: 300 * MiB, btrfs: 114_294_784 };

export interface FormatRequest {
  device: string;
  type: FilesystemType;
  /** The device reads as zeros everywhere, so that nothing has to be zeroed. */
  isZeroed: boolean;
  /** Something may be there that is to be overwritten. */
  overwrite: boolean;
}

/**
 * Makes a file system. No block is discarded, so what was preallocated stays allocated.
 *
 * @throws LaminaError `size-out-of-range` where the device is too small for one of this type
 */
export async function makeFilesystem(request: FormatRequest): Promise<void> {
  const { device, type } = request;
  const sizeBytes = await blockDeviceSizeBytes(device);
  const minimum = minimumSizeBytes[type];
  if (sizeBytes < minimum) {
    throw new LaminaError(
      'size-out-of-range',
      `${type} needs at least ${formatBytes(minimum)} (${minimum} bytes), ${device} has ${formatBytes(sizeBytes)}: ask for a bigger volume or another file system`,
    );
  }
  await run(`mkfs.${type}`, [...mkfsArguments[type](request), device], { timeoutMs: mkfsTimeoutMs });
}

const mkfsArguments: Record<FilesystemType, (request: FormatRequest) => string[]> = {
  // Without `assume_storage_prezeroed` the journal is written at once, and the kernel zeroes inode tables later, 1.6 % of
  // the disk: blocks for nothing on a thin disk, holes punched into a preallocated one.
  ext4: ({ isZeroed, overwrite }) => {
    const tables = isZeroed ? 'assume_storage_prezeroed=1' : 'lazy_itable_init=0,lazy_journal_init=0';
    return ['-q', '-m', '0', '-E', `nodiscard,${tables}`, ...(overwrite ? ['-F'] : [])];
  },
  xfs: ({ overwrite }) => ['-q', '-K', ...(overwrite ? ['-f'] : [])],
  btrfs: ({ overwrite }) => ['-q', '-K', ...(overwrite ? ['-f'] : [])],
};

/**
 * Options that a file system of ours is always mounted with.
 *
 * @param discard whether freed blocks go back to the pool at once, for thin disks
 */
export function mountDefaults(type: FilesystemType, options: { discard: boolean }): string[] {
  const discard = options.discard ? 'discard' : 'nodiscard';
  // A clone has its source's UUID, which xfs would not mount beside it.
  return type === 'xfs' ? ['nouuid', discard] : [discard];
}

/** Makes a mounted file system as big as its device; one that is needs nothing. @param mountPoint a writable mount of it */
export async function growFilesystem(type: FilesystemType, device: string, mountPoint: string): Promise<void> {
  const [tool, ...args] = growCommands[type](device, mountPoint);
  await run(tool, args, { timeoutMs: growTimeoutMs });
}

const growCommands: Record<FilesystemType, (device: string, mountPoint: string) => [string, ...string[]]> = {
  ext4: (device) => ['resize2fs', device],
  xfs: (_, mountPoint) => ['xfs_growfs', '-d', mountPoint],
  btrfs: (_, mountPoint) => ['btrfs', 'filesystem', 'resize', 'max', mountPoint],
};
