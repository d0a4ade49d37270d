import { stat } from 'node:fs/promises';
import { formatBytes } from '../lib/bytes.ts';
import { childrenOf } from './graph.ts';
import type { Problem } from './findings.ts';
import { inspectPool } from './inspect.ts';
import { PoolLayout } from './layout.ts';
import type { PoolContents } from './pool.ts';
import type { LayerId } from './records.ts';

/** One layer with what names it and what is built on it. */
export interface TreeNode {
  layer: LayerId;
  format: string;
  sealed: boolean;
  virtualSizeBytes: number;
  /** What the layer's own file occupies. */
  allocatedBytes: number;
  /** Disks whose head it is, snapshots and images of it. */
  disks: string[];
  snapshots: string[];
  images: string[];
  overlays: TreeNode[];
}

export interface PoolTree {
  pool: string;
  id: string;
  roots: TreeNode[];
  problems: Problem[];
}

/** Reads a pool, served or not, as a tree of layers. Takes no lock and changes nothing. */
export async function readTree(directory: string): Promise<PoolTree> {
  const layout = new PoolLayout(directory);
  const { contents, problems } = await inspectPool(layout);
  const children = childrenOf(contents.layers);
  const node = async (id: LayerId): Promise<TreeNode[]> => {
    const layer = contents.layers.get(id);
    if (!layer) return [];
    const file = await stat(layout.layerData(id, layer.format)).catch(() => null);
    const overlays = await Promise.all((children.get(id) ?? []).map(node));
    const { format, sealed, virtualSizeBytes } = layer;
    const allocatedBytes = (file?.blocks ?? 0) * 512;
    return [
      {
        layer: id,
        format,
        sealed,
        virtualSizeBytes,
        allocatedBytes,
        ...namesOf(contents, id),
        overlays: overlays.flat(),
      },
    ];
  };
  const bases = [...contents.layers.values()].filter(({ parent }) => parent === null || !contents.layers.has(parent));
  const roots = await Promise.all(bases.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1)).map(({ id }) => node(id)));
  return { pool: layout.root, id: contents.pool.id, roots: roots.flat(), problems };
}

function namesOf(contents: PoolContents, id: LayerId): Pick<TreeNode, 'disks' | 'snapshots' | 'images'> {
  const { disks, snapshots, images } = contents;
  return {
    disks: [...disks.values()].filter((disk) => disk.head === id).map((disk) => disk.id),
    snapshots: [...snapshots.values()]
      .filter((snapshot) => snapshot.layer === id)
      .map(({ id: name, state }) => (state === 'ready' ? name : `${name} (${state})`)),
    images: [...images.values()].filter((image) => image.layer === id).map((image) => image.id),
  };
}

/** The tree as text a person understands: a layer a line, its names beside it, overlays indented below. */
export function formatTree({ pool, id, roots, problems }: PoolTree): string {
  const lines = [`pool ${pool} (${id})`];
  const draw = (node: TreeNode, indent: string, last: boolean) => {
    lines.push(`${indent}${last ? '└─' : '├─'} ${describe(node)}`);
    const deeper = `${indent}${last ? '   ' : '│  '}`;
    node.overlays.forEach((overlay, index) => draw(overlay, deeper, index === node.overlays.length - 1));
  };
  roots.forEach((root, index) => draw(root, '', index === roots.length - 1));
  if (roots.length === 0) lines.push('   empty');
  for (const { message } of problems) lines.push(`problem: ${message}`);
  return lines.join('\n');
}

function describe(node: TreeNode): string {
  const names = [
    ...node.disks.map((disk) => `disk ${disk}`),
    ...node.snapshots.map((snapshot) => `snapshot ${snapshot}`),
    ...node.images.map((image) => `image ${image}`),
  ];
  const what = names.length > 0 ? names.join(', ') : 'shared layer';
  const sizes = `${formatBytes(node.allocatedBytes)} of ${formatBytes(node.virtualSizeBytes)}`;
  return `${what}  [${node.format} ${node.layer.slice(0, 9)}${node.sealed ? ', sealed' : ''}, ${sizes}]`;
}
