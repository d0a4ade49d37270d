import type { DiskRecord, ImageRecord, LayerId, LayerRecord, SnapshotRecord } from './records.ts';

/** The layer graph as pure functions: every layer points to its backing layer, and names point to layers. */
export type LayerGraph = ReadonlyMap<LayerId, Pick<LayerRecord, 'id' | 'parent'>>;

export interface Names {
  disks: ReadonlyMap<unknown, Pick<DiskRecord, 'head'>>;
  snapshots: ReadonlyMap<unknown, Pick<SnapshotRecord, 'layer'>>;
  images: ReadonlyMap<unknown, Pick<ImageRecord, 'layer'>>;
}

/** Layers that a disk, a snapshot or an image names. */
export function namedLayers({ disks, snapshots, images }: Names): LayerId[] {
  const heads = [...disks.values()].map(({ head }) => head);
  return [...heads, ...[...snapshots.values(), ...images.values()].map(({ layer }) => layer)];
}

/** The chain from `head` down to its base, head first. Stops at a missing layer or a cycle, which inspection reports. */
export function chainIds(graph: LayerGraph, head: LayerId): LayerId[] {
  const chain: LayerId[] = [];
  const seen = new Set<LayerId>();
  let id: LayerId | null = head;
  while (id !== null && !seen.has(id)) {
    const layer = graph.get(id);
    if (!layer) break;
    chain.push(id);
    seen.add(id);
    id = layer.parent;
  }
  return chain;
}

/** Layers that no root leads to, children before their parents: the order in which they can be removed. */
export function unreferencedLayers(graph: LayerGraph, roots: Iterable<LayerId>): LayerId[] {
  const live = new Set<LayerId>();
  for (const root of roots) for (const id of chainIds(graph, root)) live.add(id);
  const dead = [...graph.keys()].filter((id) => !live.has(id));
  const depth = new Map(dead.map((id) => [id, chainIds(graph, id).length]));
  return dead.sort((a, b) => (depth.get(b) ?? 0) - (depth.get(a) ?? 0));
}

export function childrenOf(graph: LayerGraph): Map<LayerId, LayerId[]> {
  const children = new Map<LayerId, LayerId[]>();
  for (const { id, parent } of graph.values()) {
    if (parent === null) continue;
    const siblings = children.get(parent);
    if (siblings) siblings.push(id);
    else children.set(parent, [id]);
  }
  return children;
}
