import { identityOf, idOfPlace, objectOfRecord } from '../api/identity.ts';
import type { DiskImage, DiskSnapshot } from '../api/objects.ts';
import type { ObjectRef } from '../kube/objects.ts';
import { LaminaError } from '../lib/errors.ts';
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

/**
 * Whether a record is the object's. That it has the id is not enough: in the namespace of the system an object may be
 * called by the hash of a name, which is the id of what a user has declared elsewhere.
 */
export function isRecordOf(
  record: { name: string },
  object: DiskImage | DiskSnapshot,
  systemNamespace: string,
): boolean {
  if (record.name === recordNameOf(object, systemNamespace)) return true;
  return objectOfRecord(record.name, systemNamespace).namespace === object.metadata.namespace;
}

/** The disk of a DiskImage that may be gone. */
export function diskIdOfRef({ namespace = '', name }: ObjectRef, systemNamespace: string): DiskId {
  return diskIdSchema.parse(idOfPlace({ namespace, name }, systemNamespace));
}

/** The same of the image of a sealed one. */
export function imageIdOfRef({ namespace = '', name }: ObjectRef, systemNamespace: string): ImageId {
  return imageIdSchema.parse(idOfPlace({ namespace, name }, systemNamespace));
}

export function snapshotIdOfRef({ namespace = '', name }: ObjectRef, systemNamespace: string): SnapshotId {
  return snapshotIdSchema.parse(idOfPlace({ namespace, name }, systemNamespace));
}

/** @throws LaminaError `name-taken` where that is another object's */
export function assertOwnRecord(record: { id: string; name: string }, image: DiskImage, systemNamespace: string): void {
  if (isRecordOf(record, image, systemNamespace)) return;
  throw new LaminaError(
    'name-taken',
    `the pool ${image.spec.pool} holds something under the id ${record.id} that is called '${record.name}', and is another object's: declare the DiskImage under another name`,
  );
}
