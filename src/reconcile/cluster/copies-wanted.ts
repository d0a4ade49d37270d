import type { DiskImage } from '../../api/objects.ts';
import type { Node } from '../../kube/kinds/core-kinds.ts';
import { isBeingDeleted } from '../../kube/objects.ts';

/** Why a node cannot have a copy. */
export interface CopyObstacle {
  reason: 'NodeNotFound' | 'PoolNotFound';
  /** For people. */
  message: string;
}

/** A node that is to have a copy. */
export interface WantedCopy {
  nodeName: string;
  obstacle: CopyObstacle | null;
}

/** What there is in the cluster. */
export interface CopyPlaces {
  nodes: readonly Node[];
  /** Whether a node has a pool of that name, or did when a copy was made there. */
  hasPool: (nodeName: string) => boolean;
}

/** Whether it asks for copies. */
export function asksForCopies({ spec: { sealed, nodes, nodeSelector } }: DiskImage): boolean {
  return sealed && (nodes.length > 0 || nodeSelector !== undefined);
}

/**
 * The nodes that are to have a copy of a DiskImage, by their names: those that it names, and those that its selector
 * chooses. Of the latter only those that can: it may well choose nodes that have no pools at all.
 */
export function wantedCopies(image: DiskImage, { nodes, hasPool }: CopyPlaces): WantedCopy[] {
  const { nodes: named, nodeSelector, nodeName: own, pool } = image.spec;
  const known = new Set(nodes.map(({ metadata }) => metadata.name));
  const selected = nodes.filter((node) => nodeSelector !== undefined && matches(node, nodeSelector));
  const able = selected.filter((node) => !isBeingDeleted(node)).map(({ metadata }) => metadata.name);
  const wanted = new Set([...named, ...able.filter(hasPool)]);
  if (own !== undefined) wanted.delete(own);
  return [...wanted].sort().map((nodeName) => {
    if (!known.has(nodeName)) return { nodeName, obstacle: nodeNotFound(nodeName) };
    return { nodeName, obstacle: hasPool(nodeName) ? null : poolNotFound(nodeName, pool) };
  });
}

function matches({ metadata: { labels = {} } }: Node, selector: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value);
}

function nodeNotFound(nodeName: string): CopyObstacle {
  const message = `There is no node ${nodeName} in the cluster: take it out of spec.nodes, or wait until it is back.`;
  return { reason: 'NodeNotFound', message };
}

function poolNotFound(nodeName: string, pool: string): CopyObstacle {
  const message = `Node ${nodeName} has no pool ${pool}: add one to the node plugin's --pool, or take the node out of spec.nodes.`;
  return { reason: 'PoolNotFound', message };
}
