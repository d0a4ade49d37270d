import { diskPoolName } from '../api/names.ts';
import {
  type DiskImage,
  diskImages,
  type DiskPool,
  diskPools,
  type DiskSnapshot,
  diskSnapshots,
} from '../api/objects.ts';
import { type Node, nodeType } from '../kube/core-kinds.ts';
import { isBeingDeleted } from '../kube/objects.ts';
import { Reflector, type ReflectorOptions } from '../kube/reflector.ts';

/** What the controller knows of the cluster. */
export interface Caches {
  images: Reflector<DiskImage>;
  snapshots: Reflector<DiskSnapshot>;
  pools: Reflector<DiskPool>;
  nodes: Reflector<Node>;
}

/** By which objects are found in their caches. */
export const indexes = {
  /** DiskImages, DiskSnapshots and DiskPools by the name of their node. */
  node: 'node',
  /** DiskImages that take room which their pool does not count yet, by the name of the DiskPool. */
  pending: 'pending',
  /** DiskImages without a node, by their namespace, and all of them by `anyNamespace`. */
  unplaced: 'unplaced',
} as const;

/** No namespace is called so. */
export const anyNamespace = '*';

export function createCaches(options: Omit<ReflectorOptions<never>, 'type' | 'indexers'>): Caches {
  return {
    images: new Reflector({
      ...options,
      type: diskImages,
      indexers: { [indexes.node]: nodeOf, [indexes.pending]: pendingIn, [indexes.unplaced]: unplacedIn },
    }),
    snapshots: new Reflector({ ...options, type: diskSnapshots, indexers: { [indexes.node]: nodeOf } }),
    pools: new Reflector({ ...options, type: diskPools, indexers: { [indexes.node]: nodeOf } }),
    nodes: new Reflector({ ...options, type: nodeType }),
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
  const { namespace = '' } = image.metadata;
  return image.spec.nodeName === undefined && !isBeingDeleted(image) ? [namespace, anyNamespace] : [];
}
