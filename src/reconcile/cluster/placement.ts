import { formatBytes } from '../../lib/bytes.ts';

/** The pool of one node as a place for a new disk. */
export interface Candidate {
  nodeName: string;
  /** Why no disk can be made there now, for people; null where one can. */
  obstacle: string | null;
  /** The biggest disk without, and with preallocation that it has room for. */
  thinBytes: number;
  thickBytes: number;
}

/** What a disk asks of its place. */
export interface PlacementWish {
  sizeBytes: number;
  /** Whether it takes all of its space at once. */
  isThick: boolean;
  /** Nodes that may have it; null for any. */
  allowed: readonly string[] | null;
  /** Those of them that would be nice, the best first. */
  preferred: readonly string[];
}

export type Placed = { nodeName: string };
export type Unplaced = { reason: 'PoolNotFound' | 'NoRoom'; message: string };

/**
 * The node for a new disk: the first preferred one that can have it, else of all others that can the one with most
 * room.
 */
export function chooseNode(candidates: readonly Candidate[], wish: PlacementWish): Placed | Unplaced {
  const allowed = candidates.filter(({ nodeName }) => wish.allowed?.includes(nodeName) ?? true);
  const fitting = allowed.filter(
    (candidate) => candidate.obstacle === null && roomFor(candidate, wish) >= wish.sizeBytes,
  );
  const rank = ({ nodeName }: Candidate) => wish.preferred.indexOf(nodeName) + 1 || Number.POSITIVE_INFINITY;
  const [best] = fitting.sort(
    (a, b) =>
      compare(rank(a), rank(b)) || compare(roomFor(b, wish), roomFor(a, wish)) || compare(a.nodeName, b.nodeName),
  );
  return best ? { nodeName: best.nodeName } : refusal(allowed, wish);
}

/** Of a candidate that has no obstacle. */
export function roomFor({ thinBytes, thickBytes }: Candidate, { isThick }: Pick<PlacementWish, 'isThick'>): number {
  return isThick ? thickBytes : thinBytes;
}

function refusal(allowed: readonly Candidate[], wish: PlacementWish): Unplaced {
  const known = new Set(allowed.map(({ nodeName }) => nodeName));
  const without = (wish.allowed ?? []).filter((nodeName) => !known.has(nodeName));
  const reasons = [
    ...allowed.map((candidate) => {
      const room = `there is room for ${formatBytes(Math.max(0, roomFor(candidate, wish)))}`;
      return `${candidate.nodeName}: ${candidate.obstacle ?? room}`;
    }),
    ...without.map((nodeName) => `${nodeName}: it has no such pool`),
  ];
  const message = reasons.length > 0 ? listed(reasons) : 'no node has such a pool';
  return { reason: allowed.some(({ obstacle }) => obstacle === null) ? 'NoRoom' : 'PoolNotFound', message };
}

const maxListed = 8;

function listed(reasons: readonly string[]): string {
  const rest = reasons.length - maxListed;
  return `${reasons.slice(0, maxListed).join('; ')}${rest > 0 ? `; and ${rest} more nodes` : ''}`;
}

function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
