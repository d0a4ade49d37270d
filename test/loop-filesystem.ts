import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Mounts a new file system of an image file at `directory`/`name`; unmounted by the caller or by clearBelow. */
export function mountImage(
  directory: string,
  name: string,
  fsType: 'ext4' | 'xfs' | 'btrfs',
  sizeBytes: number,
): string {
  const image = path.join(directory, `${name}.image`);
  const mountPoint = path.join(directory, name);
  mkdirSync(mountPoint, { recursive: true });
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  execFileSync(`mkfs.${fsType}`, ['-q', ...(fsType === 'ext4' ? ['-m', '0'] : []), image]);
  execFileSync('mount', ['-o', 'loop', image, mountPoint]);
  return mountPoint;
}

export function unmount(mountPoint: string): void {
  execFileSync('umount', [mountPoint]);
}
