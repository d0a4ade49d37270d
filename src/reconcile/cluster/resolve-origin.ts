import type { DiskImage } from '../../api/objects.ts';
import { writeStatus } from '../../kube/apply.ts';
import { ConditionReport } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { VolumeSnapshot } from '../../kube/kinds/storage-kinds.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Clock } from '../../lib/clock.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { type ElectedCaches, handleOfContent, handleOfVolume, indexes } from './caches.ts';
import { chooseOrigin, originAtImage, originAtSnapshot } from './choose-origin.ts';
import { isCopyOf } from './copy-object.ts';
import { type Origin, takenFor } from '../origin.ts';
import type { PoolRooms } from './pool-rooms.ts';
import type { SourceSnapshots } from './source-snapshots.ts';

/** What stands in the way, for people. */
type Obstacle = { waitingFor: string };

export interface OriginResolverOptions {
  client: ResourceClient<DiskImage>;
  volumeSnapshots: ResourceClient<VolumeSnapshot>;
  caches: ElectedCaches;
  rooms: PoolRooms;
  /** Of disks that start elsewhere. */
  sourceSnapshots: Pick<SourceSnapshots, 'originFor'>;
  systemNamespace: string;
  clock: Clock;
}

/** What waits is looked at again after this; most changes wake it before. */
const retryMs = 15_000;

/**
 * Finds out what a claim or a VolumeSnapshot that a DiskImage starts from is in the pools, which nodes cannot see. By
 * uid, as somebody else may have got the name since. And from which node a DiskImage of another one is to get the
 * content, as long as it has not got it.
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
    controller.watch(images, (image) => [
      ...(isUnresolved(image) ? [keyOf(image.metadata)] : []),
      ...heirsOf(`DiskImage ${keyOf(image.metadata)}`),
    ]);
    controller.watch(volumes, ({ claim }) => (claim ? heirsOf(`PersistentVolumeClaim ${keyOf(claim)}`) : []));
    controller.watch(claims, ({ metadata }) => heirsOf(`PersistentVolumeClaim ${keyOf(metadata)}`));
    controller.watch(snapshots, (snapshot) => [
      ...heirsOf(`DiskSnapshot ${keyOf(snapshot.metadata)}`),
      ...takenFor(snapshot),
    ]);
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
    if (found === 'near') return 'done';
    if ('id' in found) {
      await writeStatus(client, image, { origin: found }, { signal });
      // That node may not be reached any more before all has come.
      return image.spec.source.type === 'diskImage' ? { againAfterMs: retryMs } : 'done';
    }
    // Whoever looks for its node, or tells that it is gone, speaks of it then; and of an object that it sees, its node.
    const isSpokenOf = image.spec.source.type === 'diskImage' || !caches.nodes.cache.has(image.spec.nodeName ?? '');
    if (isSpokenOf) return { againAfterMs: retryMs };
    const report = new ConditionReport<'Ready'>(['Ready']);
    report.report('Ready', 'False', 'WaitingForSource', found.waitingFor);
    const conditions = report.conditions(image.status.conditions, image.metadata.generation, clock.now());
    await writeStatus(client, image, { conditions }, { signal });
    return { againAfterMs: retryMs };
  };

  /** @returns `near` where the node sees the source itself, or will */
  async #find(image: DiskImage, signal: AbortSignal): Promise<Origin | Obstacle | 'near'> {
    const { source } = image.spec;
    const { namespace = '' } = image.metadata;
    switch (source.type) {
      case 'persistentVolumeClaim':
        return this.#ofClaim(image, keyOf({ namespace, ...source.persistentVolumeClaim }), signal);
      case 'volumeSnapshot':
        return this.#ofVolumeSnapshot({ namespace, ...source.volumeSnapshot }, signal);
      case 'diskImage':
        return (await this.#ofImage(image, source.diskImage, signal)) ?? 'near';
      case 'diskSnapshot':
        return this.#ofSnapshot(image, source.diskSnapshot) ?? 'near';
      default:
        return 'near';
    }
  }

  #ofSnapshot(image: DiskImage, reference: Reference): Origin | undefined {
    const { caches, systemNamespace } = this.#options;
    const snapshot = caches.snapshots.cache.get(keyOfReference(image, reference, systemNamespace));
    const origin = snapshot && originAtSnapshot(snapshot);
    return origin?.nodeName === image.spec.nodeName ? undefined : origin;
  }

  async #ofImage(
    image: DiskImage,
    reference: Reference,
    signal: AbortSignal,
  ): Promise<Origin | Obstacle | 'near' | undefined> {
    const { caches, rooms, sourceSnapshots, systemNamespace } = this.#options;
    const original = caches.images.cache.get(keyOfReference(image, reference, systemNamespace));
    if (!original) return undefined;
    if (!original.spec.sealed) {
      const isFar = originAtImage(original) && original.spec.nodeName !== image.spec.nodeName;
      return isFar ? sourceSnapshots.originFor(image, original, signal) : 'near';
    }
    const owned = caches.images.cache.byIndex(indexes.original, original.metadata.uid);
    return chooseOrigin(image, original, {
      copies: owned.filter((copy) => isCopyOf(copy, original)),
      isReachable: ({ nodeName, pool = '' }) => rooms.candidate(pool, nodeName)?.obstacle === null,
    });
  }

  async #ofClaim(image: DiskImage, key: string, signal: AbortSignal): Promise<Origin | Obstacle> {
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
    const origin = disk && originAtImage(disk);
    if (!origin) return { waitingFor: `The volume of the PersistentVolumeClaim ${key} is not made yet.` };
    const isFar = image.spec.nodeName !== undefined && image.spec.nodeName !== origin.nodeName;
    return isFar ? this.#options.sourceSnapshots.originFor(image, disk, signal) : origin;
  }

  async #ofVolumeSnapshot(ref: { namespace: string; name: string }, signal: AbortSignal): Promise<Origin | Obstacle> {
    const { volumeSnapshots, caches } = this.#options;
    const key = keyOf(ref);
    const snapshot = await volumeSnapshots.get(ref, { signal }).catch(unreadable);
    if (snapshot && 'waitingFor' in snapshot) return snapshot;
    if (!snapshot) return { waitingFor: `There is no VolumeSnapshot ${key}: create it, or name another one.` };
    const content = caches.contents.cache
      .byIndex(indexes.uid, snapshot.metadata.uid ?? '')
      .find(({ metadata }) => metadata.name === snapshot.contentName);
    const [handle] = content ? handleOfContent(content) : [];
    if (handle === undefined) {
      return { waitingFor: `The VolumeSnapshot ${key} is not taken yet, or not of this driver.` };
    }
    const taken = caches.snapshots.cache.get(this.#keyOfCsi(handle));
    const origin = taken && originAtSnapshot(taken);
    return origin ?? { waitingFor: `The VolumeSnapshot ${key} is not taken yet.` };
  }

  /** The object that CSI knows by that handle. */
  #keyOfCsi(handle: string): string {
    return keyOf({ namespace: this.#options.systemNamespace, name: handle });
  }
}

type Reference = { name: string; namespace?: string | undefined };

function keyOfReference(image: DiskImage, reference: Reference, systemNamespace: string): string {
  const { namespace = '' } = image.metadata;
  const isAllowed = namespace === systemNamespace || (reference.namespace ?? namespace) === namespace;
  // The node says what is wrong with it.
  return isAllowed ? keyOf({ namespace, ...reference }) : '';
}

/** As where the cluster has no VolumeSnapshots, or Lamina was installed without them. @throws other errors again */
function unreadable(error: unknown): Obstacle {
  if (!isLaminaError(error, 'api-refused')) throw error;
  return {
    waitingFor: `VolumeSnapshots cannot be read, for which snapshotter.enabled of the chart and their definitions are needed: ${error.message}.`,
  };
}

/** Whether its node waits, or may wait, for what only the controller can find out. */
function isUnresolved({ metadata, spec: { source, nodeName }, status }: DiskImage): boolean {
  const isElsewhere = (source.type === 'diskImage' || source.type === 'diskSnapshot') && nodeName !== undefined;
  const isHidden = isElsewhere || source.type === 'persistentVolumeClaim' || source.type === 'volumeSnapshot';
  // Of a sealed one there may be copies, and one that is better than what was chosen before.
  const isOpen = status.origin === undefined || source.type === 'diskImage';
  return isHidden && isOpen && status.diskId === undefined && !isBeingDeleted({ metadata });
}
