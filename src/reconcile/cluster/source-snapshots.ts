import { failureCode } from '../../api/conditions.ts';
import { annotations, finalizers } from '../../api/names.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import { isAlreadyExists } from '../../kube/client/api-error.ts';
import { findCondition } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { isBeingDeleted, keyOf, refOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import { type ElectedCaches, indexes } from './caches.ts';
import { claimSubject } from '../claim.ts';
import { originAtSnapshot } from './choose-origin.ts';
import type { ControllerStep } from './controller-steps.ts';
import { derivedName, isDerivedName } from './derived-name.ts';
import { type Origin, takenFor } from '../origin.ts';

/** In their names. */
const purpose = 'for';

export interface SourceSnapshotsOptions {
  images: ResourceClient<DiskImage>;
  snapshots: ResourceClient<DiskSnapshot>;
  caches: Pick<ElectedCaches, 'images' | 'snapshots'>;
  events: EventRecorder;
  checkpoint: Checkpoint<ControllerStep>;
}

/**
 * Takes snapshots of disks that start elsewhere: what may still change is not brought to another node, but a snapshot of
 * it can be. Each is for one DiskImage, and goes when that is made, or is gone.
 */
export class SourceSnapshots {
  readonly #options: SourceSnapshotsOptions;

  constructor(options: SourceSnapshotsOptions) {
    this.#options = options;
  }

  /** What a DiskImage gets the content of `disk` from, once that is there. */
  async originFor(image: DiskImage, disk: DiskImage, signal: AbortSignal): Promise<Origin | { waitingFor: string }> {
    const { snapshots, caches, checkpoint } = this.#options;
    const { namespace } = disk.metadata;
    const { nodeName } = disk.spec;
    const name = nameFor(image, disk.metadata.name);
    const known = caches.snapshots.cache.get(keyOf({ namespace, name }));
    if (known && !isFor(known, image)) {
      return { waitingFor: `The DiskSnapshot ${keyOf({ namespace, name })} is in the way: delete it.` };
    }
    const origin = known && !isBeingDeleted(known) ? originAtSnapshot(known) : undefined;
    if (origin) return origin;
    if (known) {
      this.#tellFailure(image, known);
      return { waitingFor: wordsFor(known) };
    }
    const given = { [annotations.takenFor]: keyOf(image.metadata) };
    const metadata = { namespace, name, annotations: given, finalizers: [finalizers.snapshot] };
    try {
      await snapshots.create({ metadata, ...{ spec: { diskImageName: disk.metadata.name, nodeName } } }, { signal });
      checkpoint('snapshot-source/snapshot-declared');
    } catch (error) {
      // An earlier try has, and the cache lags behind.
      if (!isAlreadyExists(error)) throw error;
    }
    return { waitingFor: `The source is on node ${nodeName}, and a snapshot of it is taken there.` };
  }

  #tellFailure(image: DiskImage, snapshot: DiskSnapshot): void {
    const { reason = '' } = findCondition(snapshot.status.conditions, 'Ready') ?? {};
    if (failureCode(reason) === undefined) return;
    const note = { type: 'Warning', reason, action: 'Fetch', note: wordsFor(snapshot) } as const;
    this.#options.events.record(image, note);
    const claim = claimSubject(image);
    if (claim) this.#options.events.record(claim, note);
  }

  /** Has such snapshots reconciled when they, or what they are for, change. */
  watch(controller: Controller): void {
    const { images, snapshots } = this.#options.caches;
    controller.watch(snapshots, (snapshot) => (takenFor(snapshot).length > 0 ? [keyOf(snapshot.metadata)] : []));
    controller.watch(images, ({ metadata }) =>
      snapshots.cache.byIndex(indexes.takenFor, keyOf(metadata)).map((snapshot) => keyOf(snapshot.metadata)),
    );
  }

  /** Removes it when it is not needed any more. */
  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { images, snapshots, caches, checkpoint } = this.#options;
    const snapshot = caches.snapshots.cache.get(key);
    const [heir] = snapshot ? takenFor(snapshot) : [];
    if (!snapshot || heir === undefined || isBeingDeleted(snapshot)) return 'done';
    // Annotations are copied with manifests: what somebody else has declared is not ours to delete.
    if (!isDerivedName(snapshot.metadata.name, snapshot.spec.diskImageName, purpose)) return 'done';
    if (needs(caches.images.cache.get(heir), snapshot)) return 'done';
    // The cache may lag behind, and what is removed cannot be taken again as it was.
    if (needs(await images.get(refOf(heir), { signal }), snapshot)) return 'done';
    await snapshots.removeIfPresent(snapshot.metadata, { uid: snapshot.metadata.uid, signal });
    checkpoint('snapshot-source/snapshot-deleted');
    return 'done';
  };
}

/** Of the uid, as a DiskImage of that name may come and go. */
function nameFor({ metadata: { uid } }: DiskImage, diskName: string): string {
  return derivedName(diskName, purpose, uid);
}

function isFor(snapshot: DiskSnapshot, image: DiskImage): boolean {
  const { metadata, spec } = snapshot;
  return takenFor(snapshot).includes(keyOf(image.metadata)) && metadata.name === nameFor(image, spec.diskImageName);
}

function needs(image: DiskImage | undefined, snapshot: DiskSnapshot): boolean {
  return image !== undefined && isFor(snapshot, image) && !isBeingDeleted(image) && image.status.diskId === undefined;
}

function wordsFor(snapshot: DiskSnapshot): string {
  const ready = findCondition(snapshot.status.conditions, 'Ready');
  return `The source is on another node, and a snapshot of it is taken there, the DiskSnapshot ${snapshot.metadata.name}: ${ready?.message ?? 'its node has not begun with it.'}`;
}
