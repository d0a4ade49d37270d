import { nodeTopologyKey } from '../../api/names.ts';
import type { Topology, TopologyRequirement } from '../../gen/csi.ts';
import type { NodeRequirement } from '../controller/disk-service.ts';

/** Where a volume on `nodeName` can be used. */
export function topologyOf(nodeName: string): Topology {
  return { segments: { [nodeTopologyKey]: nodeName } };
}

/** What a topology holds: one node; `any` where it says nothing; `none` where it has segments that are not ours, as no node has any. */
export type Place = { node: string } | 'any' | 'none';

export function placeOf({ segments }: Topology): Place {
  const keys = Object.keys(segments);
  const node = segments[nodeTopologyKey];
  if (keys.length === 0) return 'any';
  return node !== undefined && keys.length === 1 ? { node } : 'none';
}

/** `requisite` says what is allowed, everything where it is empty; `preferred` what would be nice. */
export function parseTopologyRequirement(requirement: TopologyRequirement | undefined): NodeRequirement {
  const requisite = requirement?.requisite.map(placeOf) ?? [];
  const isFree = requisite.length === 0 || requisite.includes('any');
  const allowed = isFree ? null : nodesOf(requisite);
  const preferred = nodesOf(requirement?.preferred.map(placeOf) ?? []);
  return { allowed, preferred: allowed ? preferred.filter((node) => allowed.includes(node)) : preferred };
}

function nodesOf(places: readonly Place[]): string[] {
  return [...new Set(places.flatMap((place) => (typeof place === 'object' ? [place.node] : [])))];
}
