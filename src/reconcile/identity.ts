import { identityOf, idOfPlace } from '../api/identity.ts';
import type { DiskImage, DiskSnapshot } from '../api/objects.ts';
import type { ObjectRef } from '../kube/objects.ts';
import {
  type DiskId,
  diskIdSchema,
  type ImageId,
  imageIdSchema,
  type SnapshotId,
  snapshotIdSchema,
} from '../store/records.ts';

/** The name that an object's disk or snapshot has in its pool. */
export function recordNameOf(object: DiskImage | DiskSnapshot, systemNamespace: string): string {
  return identityOf(object, systemNamespace).recordName;
}

export function diskIdOfImage(image: DiskImage, systemNamespace: string): DiskId {
  return diskIdSchema.parse(identityOf(image, systemNamespace).id);
}

/** Of a sealed DiskImage, whose content is an image of its pool. */
export function imageIdOfObject(image: DiskImage, systemNamespace: string): ImageId {
  return imageIdSchema.parse(identityOf(image, systemNamespace).id);
}

export function snapshotIdOfObject(snapshot: DiskSnapshot, systemNamespace: string): SnapshotId {
  return snapshotIdSchema.parse(identityOf(snapshot, systemNamespace).id);
}

/** The disk of a DiskImage that may be gone. */
export function diskIdOfRef({ namespace = '', name }: ObjectRef, systemNamespace: string): DiskId {
  return diskIdSchema.parse(idOfPlace({ namespace, name }, systemNamespace));
}

export function snapshotIdOfRef({ namespace = '', name }: ObjectRef, systemNamespace: string): SnapshotId {
  return snapshotIdSchema.parse(idOfPlace({ namespace, name }, systemNamespace));
}
