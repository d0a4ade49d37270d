import { randomBytes } from 'node:crypto';
import { derivedId, transientPrefix } from '../lib/derived-id.ts';
import {
  type DiskId,
  diskIdSchema,
  type ImageId,
  imageIdSchema,
  type LayerId,
  layerIdSchema,
  type SnapshotId,
  snapshotIdSchema,
} from './records.ts';

export function diskIdOf(name: string): DiskId {
  return diskIdSchema.parse(derivedId(name));
}

export function snapshotIdOf(name: string): SnapshotId {
  return snapshotIdSchema.parse(derivedId(name));
}

export function imageIdOf(name: string): ImageId {
  return imageIdSchema.parse(derivedId(name));
}

/** The snapshot that a clone passes through; no name gives such an id. */
export function transientSnapshotId(clone: DiskId): SnapshotId {
  return snapshotIdSchema.parse(transientPrefix + clone);
}

/** The same for an image that is taken from a disk. No id begins with a dash, so it is no clone's. */
export function transientImageSnapshotId(image: ImageId): SnapshotId {
  return snapshotIdSchema.parse(`${transientPrefix}-${image}`);
}

/** Layers have no names: a retry does not look for one, and what a crash left without a name is collected. */
export function newLayerId(): LayerId {
  return layerIdSchema.parse(`l${randomBytes(12).toString('hex')}`);
}
