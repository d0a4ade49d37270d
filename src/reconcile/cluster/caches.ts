import { identityOf } from '../../api/identity.ts';
import { annotations, diskPoolName, driverName, nodeLeaseLabels, transferSignerName } from '../../api/names.ts';
import {
  type DiskImage,
  diskImages,
  type DiskPool,
  diskPools,
  type DiskSnapshot,
  diskSnapshots,
} from '../../api/objects.ts';
import {
  type CertificateSigningRequest,
  certificateSigningRequestType,
} from '../../kube/kinds/certificate-requests.ts';
import {
  namespaceType,
  type Node,
  nodeType,
  type PersistentVolume,
  type PersistentVolumeClaim,
  persistentVolumeClaimType,
  persistentVolumeType,
  type VolumeSnapshotContent,
  volumeSnapshotContentType,
} from '../../kube/kinds/core-kinds.ts';
import { type Lease, leaseType } from '../../kube/election/lease.ts';
import { isBeingDeleted, type KubeObject, keyOf } from '../../kube/objects.ts';
import { Reflector, type ReflectorOptions } from '../../kube/cache/reflector.ts';
import { asksForCopies } from './copies-wanted.ts';
import { originalOf } from './copy-object.ts';
import { originOfImage, originOfSnapshot, takenFor } from '../origin.ts';

/** What every controller knows of the cluster. */
export interface Caches {
  images: Reflector<DiskImage>;
  snapshots: Reflector<DiskSnapshot>;
  pools: Reflector<DiskPool>;
  nodes: Reflector<Node>;
}

/** What the elected one knows beside that: who could refer to volumes and snapshots, and where objects could be. */
export interface ElectedCaches extends Caches {
  volumes: Reflector<PersistentVolume>;
  claims: Reflector<PersistentVolumeClaim>;
  /** Does not sync as long as the definition of VolumeSnapshotContents is not installed. */
  contents: Reflector<VolumeSnapshotContent>;
  namespaces: Reflector<KubeObject>;
  /** Of the node plugins. */
  leases: Reflector<Lease>;
  /** Those for certificates of nodes. */
  requests: Reflector<CertificateSigningRequest>;
}

/** By which objects are found in their caches. */
export const indexes = {
  /** DiskImages, DiskSnapshots and DiskPools by the name of their node. */
  node: 'node',
  /** DiskImages and DiskSnapshots by what their pool calls them. */
  id: 'id',
  /** DiskImages that take room which their pool does not count yet, by the name of the DiskPool. */
  pending: 'pending',
  /** DiskImages without a node, all by the empty value. */
  unplaced: 'unplaced',
  /** PersistentVolumes and VolumeSnapshotContents of this driver, by the id that CSI knows. */
  handle: 'handle',
  /** PersistentVolumes and DiskImages by their claim, VolumeSnapshotContents by their VolumeSnapshot: `namespace/name`. */
  claim: 'claim',
  /** DiskImages and DiskSnapshots by what they start from or are of: `DiskImage media/debian`. */
  origin: 'origin',
  /** VolumeSnapshotContents by the uid of their VolumeSnapshot. */
  uid: 'uid',
  /** DiskImages that were declared as copies, by the uid of the DiskImage that they are of. */
  original: 'original',
  /** DiskSnapshots that were taken for a DiskImage that is to start from them, by its key. */
  takenFor: 'takenFor',
  /** DiskImages that ask for copies, all by the empty value. */
  copied: 'copied',
} as const;

type Options = Omit<ReflectorOptions<never>, 'type' | 'indexers' | 'optional'>;

export function createCaches(options: Options, systemNamespace: string): Caches {
  const id = (object: DiskImage | DiskSnapshot) => [identityOf(object, systemNamespace).id];
  return {
    images: new Reflector({
      ...options,
      type: diskImages,
      indexers: {
        [indexes.node]: nodeOf,
        [indexes.id]: id,
        [indexes.pending]: pendingIn,
        [indexes.unplaced]: unplacedIn,
        [indexes.claim]: claimOf,
        [indexes.origin]: originOfImage,
        [indexes.original]: (image) => originalOf(image).map(({ uid }) => uid),
        [indexes.copied]: (image) => (asksForCopies(image) ? [''] : []),
      },
    }),
    snapshots: new Reflector({
      ...options,
      type: diskSnapshots,
      indexers: {
        [indexes.node]: nodeOf,
        [indexes.id]: id,
        [indexes.origin]: originOfSnapshot,
        [indexes.takenFor]: takenFor,
      },
    }),
    pools: new Reflector({ ...options, type: diskPools, indexers: { [indexes.node]: nodeOf } }),
    nodes: new Reflector({ ...options, type: nodeType }),
  };
}

export function createElectedCaches(caches: Caches, options: Options, systemNamespace: string): ElectedCaches {
  const [nodeLeases] = Object.entries(nodeLeaseLabels).map((pair) => pair.join('='));
  return {
    ...caches,
    volumes: new Reflector({
      ...options,
      type: persistentVolumeType,
      indexers: { [indexes.handle]: handleOfVolume, [indexes.claim]: ({ claim }) => (claim ? [keyOf(claim)] : []) },
    }),
    claims: new Reflector({ ...options, type: persistentVolumeClaimType }),
    contents: new Reflector({
      ...options,
      type: volumeSnapshotContentType,
      optional: true,
      indexers: {
        [indexes.handle]: handleOfContent,
        [indexes.claim]: ({ snapshot }) => [keyOf(snapshot)],
        [indexes.uid]: ({ snapshot }) => (snapshot.uid ? [snapshot.uid] : []),
      },
    }),
    namespaces: new Reflector({ ...options, type: namespaceType }),
    leases: new Reflector({ ...options, type: leaseType, namespace: systemNamespace, labelSelector: nodeLeases }),
    requests: new Reflector({
      ...options,
      type: certificateSigningRequestType,
      fieldSelector: `spec.signerName=${transferSignerName}`,
    }),
  };
}

function nodeOf({ spec: { nodeName } }: { spec: { nodeName?: string | undefined } }): string[] {
  return nodeName === undefined ? [] : [nodeName];
}

function pendingIn(image: DiskImage): string[] {
  const { nodeName, pool } = image.spec;
  const isPending = nodeName !== undefined && image.status.diskId === undefined && !isBeingDeleted(image);
  return isPending ? [diskPoolName(pool, nodeName)] : [];
}

function unplacedIn(image: DiskImage): string[] {
  return image.spec.nodeName === undefined && !isBeingDeleted(image) ? [''] : [];
}

function claimOf({ metadata }: DiskImage): string[] {
  const claim = metadata.annotations[annotations.claim];
  return claim === undefined ? [] : [claim];
}

/** The id of the volume that a PersistentVolume stands for, where it is of this driver. */
export function handleOfVolume({ csi }: PersistentVolume): string[] {
  return csi?.driver === driverName ? [csi.volumeHandle] : [];
}

/** The id of the snapshot that a VolumeSnapshotContent stands for, where it is of this driver. */
export function handleOfContent({ driver, snapshotHandle }: VolumeSnapshotContent): string[] {
  return driver === driverName && snapshotHandle !== undefined ? [snapshotHandle] : [];
}
