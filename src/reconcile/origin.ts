import { annotations } from '../api/names.ts';
import type { DiskImage, DiskSnapshot } from '../api/objects.ts';
import { findCondition } from '../kube/conditions.ts';
import { keyOf } from '../kube/objects.ts';

/** Where what a DiskImage starts from is, as the controller found it and wrote it into its status. */
export type Origin = NonNullable<DiskImage['status']['origin']>;

/** What a DiskImage starts from, as the index of origins has it: `DiskImage media/debian`; nothing where that is no object. */
export function originOfImage({ metadata: { namespace }, spec: { source } }: DiskImage): string[] {
  switch (source.type) {
    case 'diskImage':
      return [`DiskImage ${keyOf({ namespace, ...source.diskImage })}`];
    case 'diskSnapshot':
      return [`DiskSnapshot ${keyOf({ namespace, ...source.diskSnapshot })}`];
    case 'persistentVolumeClaim':
      return [`PersistentVolumeClaim ${keyOf({ namespace, ...source.persistentVolumeClaim })}`];
    case 'volumeSnapshot':
      return [`VolumeSnapshot ${keyOf({ namespace, ...source.volumeSnapshot })}`];
    default:
      return [];
  }
}

/** The DiskImage that a DiskSnapshot is of. */
export function originOfSnapshot({ metadata: { namespace }, spec: { diskImageName } }: DiskSnapshot): string[] {
  return [`DiskImage ${keyOf({ namespace, name: diskImageName })}`];
}

/** The key of the DiskImage that a snapshot is for, so that this can start on another node; nothing where it is for none. */
export function takenFor({ metadata }: DiskSnapshot): string[] {
  const heir = metadata.annotations[annotations.takenFor];
  return heir === undefined ? [] : [heir];
}

/** Of those that wait for their origin: what is ready does not need it any more. */
export function keysOfWaiting(objects: readonly (DiskImage | DiskSnapshot)[]): string[] {
  const waiting = objects.filter(({ status }) => findCondition(status.conditions, 'Ready')?.status !== 'True');
  return waiting.map(({ metadata }) => keyOf(metadata));
}
