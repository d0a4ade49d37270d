import type { Checkpoint } from '../../lib/checkpoint.ts';
import { LaminaError } from '../../lib/errors.ts';
import { type FileAccess, imageBlockdev, isFileNode } from '../../qemu/blockdev.ts';
import type { BlockGraph, QmpClient } from '../../qemu/qmp-client.ts';
import type { ChainLayer } from '../../store/records.ts';
import type { EngineStep } from './steps.ts';

type NodeCommands = Pick<QmpClient, 'queryBlockGraph' | 'blockdevAdd' | 'blockdevReopen' | 'blockdevDel'>;

export interface Following {
  /** As in the pool now, head first. */
  chain: readonly ChainLayer[];
  /** How the daemon has its files open. */
  access: FileAccess;
  checkpoint: Checkpoint<EngineStep>;
}

/**
 * Has a daemon open the layers of its disk as they are in the pool now, where some below its head were merged: the file of
 * the upper one was rewritten, and the lower one is gone from `chain`. The daemon has the former files open, which hold the same
 * bytes, so this can be cut short anywhere and done again; only then their space is given back. Topmost first: a node is
 * opened anew by its path, which must be the file that it has open.
 *
 * @param head the node that the export shows, of the uppermost layer of `chain`
 * @throws LaminaError `graph-corrupt` where the daemon's nodes are not those of the chain
 */
export async function followChain(
  qmp: NodeCommands,
  head: string,
  { chain, access, checkpoint }: Following,
): Promise<void> {
  let graph = await qmp.queryBlockGraph();
  const inUse = [head];
  for (const [depth, layer] of chain.entries()) {
    const node = inUse[depth] ?? '';
    const wanted = chain[depth + 1]?.id ?? null;
    const below = graph.backings.get(node) ?? null;
    if (layerOf(below) === wanted) {
      if (below !== null) inUse.push(below);
      continue;
    }
    const above = chain[depth - 1];
    const backing = findBelow(graph.backings, node, wanted);
    if (!above || backing === undefined) {
      throw new LaminaError('graph-corrupt', `node ${node} of the storage daemon is not above layer ${wanted}`);
    }
    const fresh = unusedName(graph.nodes, layer.id);
    await qmp.blockdevAdd(imageBlockdev({ ...layer, nodeName: fresh, readOnly: true, backing }, access));
    checkpoint('follow-chain/node-added');
    const parent = { ...above, nodeName: inUse[depth - 1] ?? '', readOnly: depth > 1, backing: fresh };
    await qmp.blockdevReopen(imageBlockdev(parent, access));
    checkpoint('follow-chain/reopened');
    graph = await qmp.queryBlockGraph();
    inUse[depth] = fresh;
    if (backing !== null) inUse.push(backing);
  }
  await removeUnused(qmp, graph, inUse);
  checkpoint('follow-chain/unused-removed');
}

/** A node has its layer's id for a name; one that was opened since on the rewritten file, a number in addition. */
function layerOf(node: string | null): string | null {
  return node?.replace(/\.[0-9]+$/, '') ?? null;
}

function unusedName(nodes: readonly string[], layerId: string): string {
  for (let number = 1; ; number++) if (!nodes.includes(`${layerId}.${number}`)) return `${layerId}.${number}`;
}

/** The node of layer `wanted` below `node`; null where nothing is wanted, undefined where there is none. */
function findBelow(
  backings: ReadonlyMap<string, string>,
  node: string,
  wanted: string | null,
): string | null | undefined {
  if (wanted === null) return null;
  let below = backings.get(node);
  while (below !== undefined && layerOf(below) !== wanted) below = backings.get(below);
  return below;
}

/** Closes what is not in use: what was merged, and overlays of snapshots that failed. Those with nothing above them first. */
async function removeUnused(
  qmp: NodeCommands,
  { nodes, backings }: BlockGraph,
  inUse: readonly string[],
): Promise<void> {
  const unused = new Set(nodes.filter((node) => !isFileNode(node) && !inUse.includes(node)));
  while (unused.size > 0) {
    const covered = new Set([...unused].map((node) => backings.get(node)));
    const next = [...unused].find((node) => !covered.has(node)) ?? '';
    await qmp.blockdevDel(next);
    unused.delete(next);
  }
}
