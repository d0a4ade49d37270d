import { createHash, randomBytes } from 'node:crypto';
import {
  type DiskId,
  diskIdSchema,
  type LayerId,
  layerIdSchema,
  type SnapshotId,
  snapshotIdSchema,
} from './records.ts';

/** Short enough for a file name, a Kubernetes object name and a label value. */
const plainName = /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/;
const hashedPrefix = 'sha256-';
const transientPrefix = 'transient.';

/**
 * The id for a name a caller chose: the name itself where it is plain, a hash of it otherwise. The same name always
 * gives the same id, and no two names share one.
 */
function idOf(name: string): string {
  const reserved = name.startsWith(hashedPrefix) || name.startsWith(transientPrefix);
  if (plainName.test(name) && !reserved) return name;
  return hashedPrefix + createHash('sha256').update(name).digest('hex').slice(0, 48);
}

export function diskIdOf(name: string): DiskId {
  return diskIdSchema.parse(idOf(name));
}

export function snapshotIdOf(name: string): SnapshotId {
  return snapshotIdSchema.parse(idOf(name));
}

/** The snapshot that a clone passes through; no name gives such an id. */
export function transientSnapshotId(clone: DiskId): SnapshotId {
  return snapshotIdSchema.parse(transientPrefix + clone);
}

/** Layers have no names: a retry does not look for one, and what a crash left without a name is collected. */
export function newLayerId(): LayerId {
  return layerIdSchema.parse(`l${randomBytes(12).toString('hex')}`);
}
