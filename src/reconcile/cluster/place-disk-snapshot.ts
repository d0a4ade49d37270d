import type { FailureReason } from '../../api/conditions.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import { patchObject, writeStatus } from '../../kube/apply.ts';
import { ConditionReport } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Clock } from '../../lib/clock.ts';
import { type Caches, indexes } from './caches.ts';

export interface DiskSnapshotPlacerOptions {
  client: ResourceClient<DiskSnapshot>;
  caches: Pick<Caches, 'images' | 'snapshots'>;
  clock: Clock;
}

/**
 * Has the DiskSnapshots that people declare taken where their disks are, and says what they wait for before that. Those
 * of CSI name the node themselves.
 */
export class DiskSnapshotPlacer {
  readonly #options: DiskSnapshotPlacerOptions;

  constructor(options: DiskSnapshotPlacerOptions) {
    this.#options = options;
  }

  watch(controller: Controller): void {
    const { images, snapshots } = this.#options.caches;
    const snapshotsOf = (origin: string) => snapshots.cache.byIndex(indexes.origin, origin);
    controller.watch(snapshots, ({ metadata, spec }) => (spec.nodeName === undefined ? [keyOf(metadata)] : []));
    // One that waits for its disk, or for the disk's node.
    controller.watch(images, ({ metadata }) =>
      snapshotsOf(`DiskImage ${keyOf(metadata)}`)
        .filter(({ spec }) => spec.nodeName === undefined)
        .map((snapshot) => keyOf(snapshot.metadata)),
    );
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { client, caches } = this.#options;
    const snapshot = caches.snapshots.cache.get(key);
    if (!snapshot || isBeingDeleted(snapshot) || snapshot.spec.nodeName !== undefined) return 'done';
    const { namespace } = snapshot.metadata;
    const image = caches.images.cache.get(keyOf({ namespace, name: snapshot.spec.diskImageName }));
    const obstacle = obstacleOf(image, snapshot);
    if (obstacle) await this.#tell(snapshot, obstacle, signal);
    else await patchObject(client, snapshot, { spec: { nodeName: image?.spec.nodeName } }, { signal });
    return 'done';
  };

  /** Nobody else speaks of it before it has a node. */
  async #tell(snapshot: DiskSnapshot, { reason, message }: Obstacle, signal: AbortSignal): Promise<void> {
    const { client, clock } = this.#options;
    const report = new ConditionReport<'Ready'>(['Ready']);
    report.report('Ready', 'False', reason, message);
    const conditions = report.conditions(snapshot.status.conditions, snapshot.metadata.generation, clock.now());
    await writeStatus(client, snapshot, { conditions }, { signal });
  }
}

interface Obstacle {
  reason: 'WaitingForDisk' | FailureReason;
  /** For people. */
  message: string;
}

function obstacleOf(image: DiskImage | undefined, { metadata, spec }: DiskSnapshot): Obstacle | undefined {
  const what = `DiskImage ${keyOf({ namespace: metadata.namespace, name: spec.diskImageName })}`;
  if (!image) {
    const message = `There is no ${what}: declare it, or a new DiskSnapshot with the name of one that is there.`;
    return { reason: 'WaitingForDisk', message };
  }
  if (image.spec.sealed) {
    const message = `The ${what} is sealed, so its content stays as it is without a snapshot: let disks start from it by source.diskImage.`;
    return { reason: 'InvalidParameter', message };
  }
  if (image.spec.nodeName !== undefined) return undefined;
  return { reason: 'WaitingForDisk', message: `The ${what} is on no node yet; its condition Placed says why.` };
}
