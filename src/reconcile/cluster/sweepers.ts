import { annotations } from '../../api/names.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import type { KubeClient } from '../../kube/client/client.ts';
import type { Controller } from '../../kube/controller.ts';
import {
  persistentVolumeClaimType,
  persistentVolumeType,
  volumeSnapshotContentType,
} from '../../kube/kinds/core-kinds.ts';
import { keyOf, refOf } from '../../kube/objects.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { type ElectedCaches, handleOfContent, handleOfVolume, indexes } from './caches.ts';
import { claimantOfSnapshot, claimantOfVolume, isClaimOf, isSnapshotOf, snapshotNameOf } from './claimants.ts';
import { originOfImage, originOfSnapshot } from '../origin.ts';
import { UnclaimedSweeper, type UnclaimedSweeperOptions } from './sweep-unclaimed.ts';

type Options<T extends DiskImage | DiskSnapshot> = { client: KubeClient; caches: ElectedCaches } & Pick<
  UnclaimedSweeperOptions<T>,
  'resources' | 'systemNamespace' | 'graceMs' | 'events' | 'clock' | 'checkpoint'
>;

/** Sweeps volumes that no PersistentVolume and no claim refers to. */
export function volumeSweeper({ client, caches, ...rest }: Options<DiskImage>): UnclaimedSweeper<DiskImage> {
  const volumes = new ResourceClient(client, persistentVolumeType);
  const claims = new ResourceClient(client, persistentVolumeClaimType);
  return new UnclaimedSweeper({
    ...rest,
    cache: caches.images.cache,
    // The controller waits for the others.
    isInformed: () => true,
    claimantOf: (image) => claimantOfVolume(image, caches),
    isUnclaimed: async (image, signal) => {
      const claim = image.metadata.annotations[annotations.claim];
      if (claim === undefined || claimantOfVolume(image, caches).kind !== 'nobody') return false;
      const found = await claims.get(refOf(claim), { signal });
      if (isClaimOf(found, image)) return false;
      const all = await volumes.list({ signal });
      return !all.some((volume) => handleOfVolume(volume).includes(image.metadata.name));
    },
  });
}

/** Has volumes reconciled when they, or what may refer to them, change. */
export function watchVolumes(controller: Controller, caches: ElectedCaches, systemNamespace: string): void {
  const { images, snapshots, volumes, claims } = caches;
  controller.watch(images, (image) => [keyOf(image.metadata), ...originsOfKind('DiskImage', originOfImage(image))]);
  controller.watch(snapshots, (snapshot) => originsOfKind('DiskImage', originOfSnapshot(snapshot)));
  controller.watch(volumes, (volume) =>
    handleOfVolume(volume).map((name) => keyOf({ namespace: systemNamespace, name })),
  );
  controller.watch(claims, (claim) =>
    images.cache.byIndex(indexes.claim, keyOf(claim.metadata)).map(({ metadata }) => keyOf(metadata)),
  );
}

/** The keys of the objects of a kind among what others start from. */
function originsOfKind(kind: string, origins: readonly string[]): string[] {
  return origins.flatMap((origin) => (origin.startsWith(`${kind} `) ? [origin.slice(kind.length + 1)] : []));
}

/** Sweeps snapshots that no VolumeSnapshotContent refers to; none where there are no VolumeSnapshotContents at all. */
export function snapshotSweeper({ client, caches, ...rest }: Options<DiskSnapshot>): UnclaimedSweeper<DiskSnapshot> {
  const contents = new ResourceClient(client, volumeSnapshotContentType);
  return new UnclaimedSweeper({
    ...rest,
    cache: caches.snapshots.cache,
    isInformed: () => caches.contents.hasSynced,
    claimantOf: (snapshot) => claimantOfSnapshot(snapshot, caches),
    isUnclaimed: async (snapshot, signal) => {
      if (claimantOfSnapshot(snapshot, caches).kind !== 'nobody') return false;
      const all = await contents.list({ signal });
      const { name } = snapshot.metadata;
      return !all.some((content) => handleOfContent(content).includes(name) || isSnapshotOf(content, snapshot));
    },
  });
}

/** Has snapshots reconciled when they, or what may refer to them, change. */
export function watchSnapshots(controller: Controller, caches: ElectedCaches, systemNamespace: string): void {
  const { images, snapshots, contents } = caches;
  controller.watch(snapshots, ({ metadata }) => [keyOf(metadata)]);
  controller.watch(images, (image) => originsOfKind('DiskSnapshot', originOfImage(image)));
  // Not waited for, as there may never be any.
  contents.subscribe(({ before, after }) => {
    for (const content of [before, after]) {
      if (!content) continue;
      for (const name of [...handleOfContent(content), snapshotNameOf(content)])
        controller.enqueue(keyOf({ namespace: systemNamespace, name }));
    }
  });
}
