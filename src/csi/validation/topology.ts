import { nodeTopologyKey } from '../../api/names.ts';
import type { Topology, TopologyRequirement } from '../../gen/csi.ts';
import { LaminaError } from '../../lib/errors.ts';

/** Where a volume on `nodeName` can be used. */
export function topologyOf(nodeName: string): Topology {
  return { segments: { [nodeTopologyKey]: nodeName } };
}

/** Whether `topology` holds the node. One that says nothing holds every node; of segments that are not ours, no node has any. */
export function includesNode(topology: Topology, nodeName: string): boolean {
  return Object.entries(topology.segments).every(([key, value]) => key === nodeTopologyKey && value === nodeName);
}

/**
 * `preferred` says what would be nice, and the one node there is here is all there is to choose from.
 *
 * @throws LaminaError `topology-unsatisfiable` where the volume must be somewhere else
 */
export function requireNodeAllowed(requirement: TopologyRequirement | undefined, nodeName: string): void {
  const requisite = requirement?.requisite ?? [];
  if (requisite.length === 0 || requisite.some((topology) => includesNode(topology, nodeName))) return;
  const wanted = requisite.map(({ segments }) => JSON.stringify(segments)).join(' or ');
  throw new LaminaError(
    'topology-unsatisfiable',
    `the volume must be accessible from ${wanted}; this plugin makes volumes on node '${nodeName}' only`,
  );
}
