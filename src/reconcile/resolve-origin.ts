import type { DiskImage } from '../api/objects.ts';
import { writeStatus } from '../kube/apply.ts';
import { ConditionReport } from '../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../kube/controller.ts';
import type { VolumeSnapshot } from '../kube/storage-kinds.ts';
import { isBeingDeleted, keyOf } from '../kube/objects.ts';
import type { ResourceClient } from '../kube/resource-client.ts';
import type { Clock } from '../lib/clock.ts';
import { type ElectedCaches, handleOfContent, handleOfVolume, indexes } from './caches.ts';
import { originOfImage } from './origin.ts';

type Origin = NonNullable<DiskImage['status']['origin']>;
/** What stands in the way, for people. */
type Obstacle = { waitingFor: string };

export interface OriginResolverOptions {
  client: ResourceClient<DiskImage>;
  volumeSnapshots: ResourceClient<VolumeSnapshot>;
  caches: ElectedCaches;
  systemNamespace: string;
  clock: Clock;
}

/** What waits is looked at again after this; most changes wake it before. */
const retryMs = 15_000;

/**
 * Finds out what a claim or a VolumeSnapshot that a DiskImage starts from is in the pools, which nodes cannot see. By
 * uid, as somebody else may have got the name since.
 */
export class OriginResolver {
  readonly #options: OriginResolverOptions;

  constructor(options: OriginResolverOptions) {
    this.#options = options;
  }

  watch(controller: Controller): void {
    const { images, snapshots, volumes, claims, contents, nodes } = this.#options.caches;
    const heirsOf = (origin: string) =>
      images.cache
        .byIndex(indexes.origin, origin)
        .flatMap((image) => (isUnresolved(image) ? [keyOf(image.metadata)] : []));
    controller.watch(images, (image) => (isUnresolved(image) ? [keyOf(image.metadata)] : []));
    controller.watch(volumes, ({ claim }) => (claim ? heirsOf(`PersistentVolumeClaim ${keyOf(claim)}`) : []));
    controller.watch(claims, ({ metadata }) => heirsOf(`PersistentVolumeClaim ${keyOf(metadata)}`));
    controller.watch(snapshots, () => []);
    controller.watch(nodes, () => []);
    // Not waited for, as there may never be any.
    contents.subscribe(({ after }) => {
      if (after) for (const key of heirsOf(`VolumeSnapshot ${keyOf(after.snapshot)}`)) controller.enqueue(key);
    });
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { client, caches, clock } = this.#options;
    const image = caches.images.cache.get(key);
    if (!image || !isUnresolved(image)) return 'done';
    const found = await this.#find(image, signal);
    if ('id' in found) {
      await writeStatus(client, image, { origin: found }, { signal });
      return 'done';
    }
    // Whoever looks for its node, or tells that it is gone, speaks of it then.
    if (!caches.nodes.cache.has(image.spec.nodeName ?? '')) return { againAfterMs: retryMs };
    const report = new ConditionReport<'Ready'>(['Ready']);
    report.report('Ready', 'False', 'WaitingForSource', found.waitingFor);
    const conditions = report.conditions(image.status.conditions, image.metadata.generation, clock.now());
    await writeStatus(client, image, { conditions }, { signal });
    return { againAfterMs: retryMs };
  };

  async #find(image: DiskImage, signal: AbortSignal): Promise<Origin | Obstacle> {
    const { source } = image.spec;
    const { namespace = '' } = image.metadata;
    if (source.type === 'persistentVolumeClaim') {
      return this.#ofClaim(keyOf({ namespace, ...source.persistentVolumeClaim }));
    }
    if (source.type === 'volumeSnapshot') return this.#ofSnapshot({ namespace, ...source.volumeSnapshot }, signal);
    return { waitingFor: `There is nothing to be found out of ${originOfImage(image).join()}.` };
  }

  #ofClaim(key: string): Origin | Obstacle {
    const { volumes, claims, images } = this.#options.caches;
    const claim = claims.cache.get(key);
    if (!claim) return { waitingFor: `There is no PersistentVolumeClaim ${key}: create it, or name another one.` };
    const volume = volumes.cache.byIndex(indexes.claim, key).find((one) => one.claim?.uid === claim.metadata.uid);
    if (!volume) return { waitingFor: `The PersistentVolumeClaim ${key} has no volume yet: use it in a pod, or wait.` };
    const [handle] = handleOfVolume(volume);
    if (handle === undefined) {
      return {
        waitingFor: `The PersistentVolumeClaim ${key} has a volume of another driver: name one of this driver.`,
      };
    }
    const disk = images.cache.get(this.#keyOfCsi(handle));
    const { diskId } = disk?.status ?? {};
    if (!disk || diskId === undefined || disk.spec.nodeName === undefined) {
      return { waitingFor: `The volume of the PersistentVolumeClaim ${key} is not made yet.` };
    }
    return { kind: 'disk', id: diskId, nodeName: disk.spec.nodeName, pool: disk.spec.pool };
  }

  async #ofSnapshot(ref: { namespace: string; name: string }, signal: AbortSignal): Promise<Origin | Obstacle> {
    const { volumeSnapshots, caches } = this.#options;
    const key = keyOf(ref);
    const snapshot = await volumeSnapshots.get(ref, { signal });
    if (!snapshot) return { waitingFor: `There is no VolumeSnapshot ${key}: create it, or name another one.` };
    const content = caches.contents.cache
      .byIndex(indexes.uid, snapshot.metadata.uid ?? '')
      .find(({ metadata }) => metadata.name === snapshot.contentName);
    const [handle] = content ? handleOfContent(content) : [];
    if (handle === undefined) {
      return { waitingFor: `The VolumeSnapshot ${key} is not taken yet, or not of this driver.` };
    }
    const taken = caches.snapshots.cache.get(this.#keyOfCsi(handle));
    const { snapshotId, pool } = taken?.status ?? {};
    const nodeName = taken?.spec.nodeName ?? taken?.status.nodeName;
    if (snapshotId === undefined || nodeName === undefined) {
      return { waitingFor: `The VolumeSnapshot ${key} is not taken yet.` };
    }
    return { kind: 'snapshot', id: snapshotId, nodeName, ...(pool === undefined ? {} : { pool }) };
  }

  /** The object that CSI knows by that handle. */
  #keyOfCsi(handle: string): string {
    return keyOf({ namespace: this.#options.systemNamespace, name: handle });
  }
}

/** Whether nodes wait for what only the controller can find out. */
function isUnresolved({ metadata, spec: { source }, status }: DiskImage): boolean {
  const isHidden = source.type === 'persistentVolumeClaim' || source.type === 'volumeSnapshot';
  const isOpen = status.origin === undefined && status.diskId === undefined;
  return isHidden && isOpen && !isBeingDeleted({ metadata });
}
