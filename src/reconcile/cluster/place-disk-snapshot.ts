import type { DiskSnapshot } from '../../api/objects.ts';
import { patchObject } from '../../kube/apply.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { type Caches, indexes } from './caches.ts';

export interface DiskSnapshotPlacerOptions {
  client: ResourceClient<DiskSnapshot>;
  caches: Pick<Caches, 'images' | 'snapshots'>;
}

/** Has the DiskSnapshots that people declare taken where their disks are. Those of CSI name the node themselves. */
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
    const nodeName = caches.images.cache.get(keyOf({ namespace, name: snapshot.spec.diskImageName }))?.spec.nodeName;
    if (nodeName !== undefined) await patchObject(client, snapshot, { spec: { nodeName } }, { signal });
    return 'done';
  };
}
