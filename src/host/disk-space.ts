import { statfs } from 'node:fs/promises';

/** Room on the file system that holds a path, in bytes. */
export interface DiskSpace {
  totalBytes: number;
  /** What an unprivileged writer could still take, as `df` shows it. */
  availableBytes: number;
}

export async function diskSpace(directory: string): Promise<DiskSpace> {
  const stats = await statfs(directory);
  return { totalBytes: stats.blocks * stats.bsize, availableBytes: stats.bavail * stats.bsize };
}

/** File systems that a pool can live on, by the magic number of statfs(2). */
const poolFilesystems: Record<number, string> = { 0xef53: 'ext4', 0x58465342: 'xfs', 0x9123683e: 'btrfs' };

/** `ext4` (also ext2 and ext3, which share its number), `xfs` or `btrfs`; undefined for any other. */
export async function poolFilesystem(directory: string): Promise<string | undefined> {
  return poolFilesystems[(await statfs(directory)).type];
}
