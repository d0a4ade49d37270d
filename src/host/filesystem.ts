import { readFile, statfs } from 'node:fs/promises';
import { formatBytes, KiB, MiB } from '../lib/bytes.ts';
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
  // Otherwise the journal is written at once, and the kernel zeroes inode tables while the file system is in use: 1.6 % of
  // the disk in blocks that hold nothing, which a thin disk would have to allocate.
  ext4: ({ isZeroed, overwrite }) => {
    const zeroed = isZeroed ? ',assume_storage_prezeroed=1' : '';
    return ['-q', '-m', '0', '-E', `nodiscard${zeroed}`, ...(overwrite ? ['-F'] : [])];
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

/** Linux grows a mounted ext4 only for those who have this capability (24); some machines give it to nobody. */
const sysResource = 1n << 24n;

/** Whether this process may grow a file system of this type while it is mounted. */
export async function canGrowMounted(type: FilesystemType): Promise<boolean> {
  if (type !== 'ext4') return true;
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${effective}`) & sysResource) !== 0n;
}

/**
 * Makes a mounted file system as big as its device; one that is needs nothing.
 *
 * @param mountPoint a writable mount of it
 * @throws LaminaError `size-out-of-range` where it cannot be made this big; `disk-in-use` where it must not be mounted
 */
export async function growMounted(type: FilesystemType, device: string, mountPoint: string): Promise<void> {
  switch (type) {
    case 'ext4':
      await growExt4(device, mountPoint);
      break;
    case 'xfs':
      await grow('xfs_growfs', '-d', mountPoint);
      break;
    case 'btrfs':
      await growBtrfs(device, mountPoint);
      break;
  }
}

/** Makes an ext4 that is not mounted as big as its device; this takes a check of all of it. One that is needs nothing. */
export async function growUnmountedExt4(device: string): Promise<void> {
  if (!(await isExt4Smaller(device))) return;
  const corrected = 1;
  await run('e2fsck', ['-f', '-p', device], { timeoutMs: growTimeoutMs, okExitCodes: [corrected] });
  await grow('resize2fs', device);
}

async function grow(tool: string, ...args: string[]): Promise<void> {
  await run(tool, args, { timeoutMs: growTimeoutMs });
}

async function growExt4(device: string, mountPoint: string): Promise<void> {
  if (!(await isExt4Smaller(device))) return;
  if (!(await canGrowMounted('ext4'))) {
    throw new LaminaError(
      'disk-in-use',
      `the ext4 at ${mountPoint} is to grow, for which this process lacks CAP_SYS_RESOURCE while it is mounted: give it the capability, or unpublish and unstage the disk; it grows when it is staged again`,
    );
  }
  await grow('resize2fs', device);
}

/** Whether another block would fit on the device. */
async function isExt4Smaller(device: string): Promise<boolean> {
  const { stdout } = await run('dumpe2fs', ['-h', device], { timeoutMs: growTimeoutMs });
  const read = (field: string) => Number(new RegExp(`^${field}:\\s*([0-9]+)$`, 'm').exec(stdout)?.[1]);
  const blockBytes = read('Block size');
  return (await blockDeviceSizeBytes(device)) >= (read('Block count') + 1) * blockBytes;
}

const btrfsSectorBytes = 4 * KiB;
/** The kernel answers EINVAL to anything smaller, also where nothing would change. */
const leastBtrfsResizeBytes = 256 * MiB;

async function growBtrfs(device: string, mountPoint: string): Promise<void> {
  const deviceBytes = await blockDeviceSizeBytes(device);
  const { blocks, bsize } = await statfs(mountPoint);
  if (deviceBytes - blocks * bsize < btrfsSectorBytes) return;
  if (deviceBytes < leastBtrfsResizeBytes) {
    throw new LaminaError(
      'size-out-of-range',
      `btrfs can only be grown to ${formatBytes(leastBtrfsResizeBytes)} or more, ${device} has ${formatBytes(deviceBytes)}: ask for a bigger volume`,
    );
  }
  await grow('btrfs', 'filesystem', 'resize', 'max', mountPoint);
}
