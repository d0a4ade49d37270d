import { findCondition } from '../../kube/conditions.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import { type ClusterDiskContext, operate, readOfCsi, refIn, watchObject } from './context.ts';
import { removeObject } from './removal.ts';
import { reportedFailure, silenceOf } from './verdicts.ts';

/**
 * Deletes the DiskImage of a volume, and waits until its node has deleted the disk.
 *
 * @throws LaminaError `disk-in-use`; `busy` where it is not gone in time; what the node reports
 */
export async function deleteDisk(context: ClusterDiskContext, diskId: string): Promise<void> {
  await operate(context, `deleting the volume ${diskId}`, async (signal) => {
    const ref = refIn(context, diskId);
    using watch = watchObject(context.caches.images, ref);
    const image = await readOfCsi(context.images, ref, signal);
    if (!image) return;
    if (image.status.attached) {
      throw new LaminaError(
        'disk-in-use',
        `the volume ${diskId} is in use on node ${image.spec.nodeName}: unpublish and unstage it first`,
      );
    }
    const left = await removeObject(
      { resources: context.images, cache: context.caches.images.cache, watch, ref, signal },
      image,
    );
    if (left) throw undeleted(context, `the volume ${diskId}`, left);
    context.checkpoint('delete-volume/image-deleted');
  });
}

/** @throws LaminaError `busy` where it is not gone in time; what the node reports */
export async function deleteSnapshot(context: ClusterDiskContext, snapshotId: string): Promise<void> {
  await operate(context, `deleting the snapshot ${snapshotId}`, async (signal) => {
    const ref = refIn(context, snapshotId);
    using watch = watchObject(context.caches.snapshots, ref);
    const snapshot = await readOfCsi(context.snapshots, ref, signal);
    if (!snapshot) return;
    const left = await removeObject(
      { resources: context.snapshots, cache: context.caches.snapshots.cache, watch, ref, signal },
      snapshot,
    );
    if (left) throw undeleted(context, `the snapshot ${snapshotId}`, left);
    context.checkpoint('delete-snapshot/snapshot-deleted');
  });
}

function undeleted(context: ClusterDiskContext, what: string, object: DiskImage | DiskSnapshot): Error {
  const failure = reportedFailure(object, 'Ready');
  if (failure) return failure;
  const ready = findCondition(object.status.conditions, 'Ready');
  const words = ready?.reason === 'Deleting' ? ready.message : silenceOf(context, object.spec.nodeName);
  return new LaminaError('busy', `node ${object.spec.nodeName} has not deleted ${what} yet: ${words}`);
}
