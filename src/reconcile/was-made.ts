import { annotations } from '../api/names.ts';
import type { DiskImage, DiskSnapshot } from '../api/objects.ts';

/**
 * Whether there was a disk or snapshot of the object at any time, by its report or because it was declared for one. Then
 * nothing is ever made in its place: it would be something else under the same name.
 */
export function wasMade({ metadata, status }: DiskImage | DiskSnapshot): boolean {
  const id = 'diskId' in status ? status.diskId : 'snapshotId' in status ? status.snapshotId : undefined;
  return id !== undefined || metadata.annotations[annotations.adopted] !== undefined;
}
