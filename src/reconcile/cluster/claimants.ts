import { annotations } from '../../api/names.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import type { VolumeSnapshotContent } from '../../kube/kinds/core-kinds.ts';
import { type KubeObject, keyOf } from '../../kube/objects.ts';
import type { Reflector } from '../../kube/cache/reflector.ts';
import { type ElectedCaches, indexes } from './caches.ts';

/** Who needs a volume or a snapshot that CSI asked for. */
export type Claimant =
  /** Something uses it, so that there may be data in it. */
  | { kind: 'user'; name: string }
  /** It is still to be used: whoever asked for it is there. */
  | { kind: 'asker' }
  /** Nobody, as far as the caches show. */
  | { kind: 'nobody' }
  /** It cannot be told. */
  | { kind: 'unknown'; why: string };

/** How csi-provisioner and csi-snapshotter name what they ask for: by the uid of the claim, or of the VolumeSnapshot. */
const volumeName = /^pvc-(?<uid>[0-9a-f-]{36})$/;
const snapshotName = /^snapshot-(?<uid>[0-9a-f-]{36})$/;

export function claimantOfVolume(image: DiskImage, caches: ElectedCaches): Claimant {
  const [volume] = caches.volumes.cache.byIndex(indexes.handle, image.metadata.name);
  if (volume) return { kind: 'user', name: `PersistentVolume ${volume.metadata.name}` };
  if (image.status.attached) return { kind: 'user', name: `node ${image.spec.nodeName}` };
  const heir = heirOf(image, caches);
  if (heir) return heir;
  const claim = image.metadata.annotations[annotations.claim];
  if (claim === undefined) return { kind: 'unknown', why: 'it does not say for which claim it was made' };
  const { cache } = caches.claims;
  if (cache.has(claim) && isClaimOf(cache.get(claim), image)) return { kind: 'asker' };
  return isWhole(caches.volumes) ? { kind: 'nobody' } : unreadable;
}

/** @param caches of which `contents` has synced */
export function claimantOfSnapshot(snapshot: DiskSnapshot, caches: ElectedCaches): Claimant {
  const { contents } = caches;
  const [content] = contents.cache.byIndex(indexes.handle, snapshot.metadata.name);
  if (content) return { kind: 'user', name: `VolumeSnapshotContent ${content.metadata.name}` };
  const heir = heirOf(snapshot, caches);
  if (heir) return heir;
  const uid = uidOf(snapshot, snapshotName);
  if (uid === undefined)
    return { kind: 'unknown', why: 'its name does not tell for which VolumeSnapshot it was taken' };
  if (contents.cache.byIndex(indexes.uid, uid).length > 0) return { kind: 'asker' };
  return isWhole(contents) ? { kind: 'nobody' } : unreadable;
}

/** Whether that is the claim that a volume was made for, and not one that got its name later. */
export function isClaimOf(claim: KubeObject | undefined, image: DiskImage): boolean {
  const uid = uidOf(image, volumeName);
  return claim !== undefined && (uid === undefined || claim.metadata.uid === uid);
}

/** Whether it was taken, or is to be, for the VolumeSnapshot of that content. */
export function isSnapshotOf({ snapshot: { uid } }: VolumeSnapshotContent, snapshot: DiskSnapshot): boolean {
  return uid !== undefined && uidOf(snapshot, snapshotName) === uid;
}

/** How the snapshot for that content is called where csi-snapshotter asks for it. */
export function snapshotNameOf({ snapshot: { uid } }: VolumeSnapshotContent): string {
  return `snapshot-${uid}`;
}

/** Who was made from it: then it was used before. */
function heirOf(
  { kind, metadata }: DiskImage | DiskSnapshot,
  { images, snapshots }: ElectedCaches,
): Claimant | undefined {
  const origin = `${kind} ${keyOf(metadata)}`;
  const [heir]: (DiskImage | DiskSnapshot)[] = [
    ...images.cache.byIndex(indexes.origin, origin),
    ...snapshots.cache.byIndex(indexes.origin, origin),
  ];
  return heir && { kind: 'user', name: `${heir.kind} ${keyOf(heir.metadata)}` };
}

const unreadable: Claimant = { kind: 'unknown', why: 'not all that could refer to it is understood' };

/** Whether every object is understood; one that is not could be anything. */
function isWhole({ cache }: Pick<Reflector<KubeObject>, 'cache'>): boolean {
  return cache.list().length === cache.size;
}

function uidOf({ metadata }: DiskImage | DiskSnapshot, pattern: RegExp): string | undefined {
  return pattern.exec(metadata.annotations[annotations.csiName] ?? '')?.groups?.['uid'];
}
