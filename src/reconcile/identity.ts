import { annotations } from '../api/names.ts';
import type { DiskImage, DiskSnapshot } from '../api/objects.ts';
import type { ObjectRef } from '../kube/objects.ts';
import { diskIdOf, snapshotIdOf } from '../store/ids.ts';
import type { DiskId, SnapshotId } from '../store/records.ts';

/**
 * The name that an object's disk or snapshot has in its pool. Of what CSI asked for, it is CSI's name; of what users
 * declare, it is where their object is. So it tells whose object it was, when all objects are lost.
 */
export function recordNameOf({ metadata }: DiskImage | DiskSnapshot, systemNamespace: string): string {
  const { namespace = '', name } = metadata;
  if (namespace !== systemNamespace) return `${namespace}/${name}`;
  return metadata.annotations[annotations.csiName] ?? name;
}

export function diskIdOfImage(image: DiskImage, systemNamespace: string): DiskId {
  return diskIdOf(recordNameOf(image, systemNamespace));
}

export function snapshotIdOfObject(snapshot: DiskSnapshot, systemNamespace: string): SnapshotId {
  return snapshotIdOf(recordNameOf(snapshot, systemNamespace));
}

/** The disk of a DiskImage that may be gone. In the system's namespace objects are named as their disks are. */
export function diskIdOfRef({ namespace = '', name }: ObjectRef, systemNamespace: string): string {
  return namespace === systemNamespace ? name : diskIdOf(`${namespace}/${name}`);
}

export function snapshotIdOfRef({ namespace = '', name }: ObjectRef, systemNamespace: string): string {
  return namespace === systemNamespace ? name : snapshotIdOf(`${namespace}/${name}`);
}
