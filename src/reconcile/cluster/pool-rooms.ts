import { diskPoolName } from '../../api/names.ts';
import { findCondition } from '../../kube/conditions.ts';
import { keyOf } from '../../kube/objects.ts';
import { takesSpaceAtOnce } from '../../store/space.ts';
import { type Caches, indexes } from './caches.ts';
import type { DiskImage, DiskPool } from '../../api/objects.ts';
import type { Candidate } from './placement.ts';

/** What a disk takes of the room in a pool. */
export interface Share {
  poolName: string;
  nodeName: string;
  sizeBytes: number;
  isThick: boolean;
}

/**
 * The room in the pools of all nodes, as the nodes report it, less what was promised since: to DiskImages that are not
 * made yet, and to those that were decided on here and that the cache does not show yet.
 */
export class PoolRooms {
  readonly #caches: Pick<Caches, 'pools' | 'nodes' | 'images'>;
  /** By the key of the DiskImage. */
  readonly #reserved = new Map<string, Share>();

  constructor(caches: Pick<Caches, 'pools' | 'nodes' | 'images'>) {
    this.#caches = caches;
  }

  /** Names of all pools that there are on any node. */
  poolNames(): string[] {
    return [...new Set(this.#caches.pools.cache.list().map(({ spec }) => spec.poolName))].sort();
  }

  /** Where disks of that pool can be. */
  candidates(poolName: string): Candidate[] {
    const pools = this.#caches.pools.cache.list().filter(({ spec }) => spec.poolName === poolName);
    return pools.map((pool) => this.#candidate(pool));
  }

  candidate(poolName: string, nodeName: string): Candidate | undefined {
    const pool = this.#caches.pools.cache.get(diskPoolName(poolName, nodeName));
    return pool && this.#candidate(pool);
  }

  /** What stands in the way of work on a node, for people; null where nothing is known to. */
  obstacleOn(nodeName: string): string | null {
    const pools = this.#caches.pools.cache.byIndex(indexes.node, nodeName);
    if (pools.length === 0) return 'it has no pool';
    return pools.map((pool) => this.#obstacle(pool)).find((obstacle) => obstacle !== null) ?? null;
  }

  /** Counts a DiskImage that is about to be declared, by its key, as long as the cache does not show it. */
  reserve(key: string, share: Share): void {
    this.#reserved.set(key, share);
  }

  /** Ends that, where it was not ended yet. */
  release(key: string): void {
    this.#reserved.delete(key);
  }

  #candidate(pool: DiskPool): Candidate {
    const { nodeName } = pool.spec;
    const { space } = pool.status;
    const shares = this.#promisedIn(pool);
    const promised = sumOf(shares);
    const thinBytes = (space?.availableThin ?? 0) - promised;
    const thickBytes = (space?.availableThick ?? 0) - sumOf(shares.filter(({ isThick }) => isThick));
    return { nodeName, obstacle: this.#obstacle(pool), thinBytes, thickBytes: Math.min(thinBytes, thickBytes) };
  }

  #obstacle({ spec, status }: DiskPool): string | null {
    const { cache } = this.#caches.nodes;
    if (!cache.has(spec.nodeName)) return 'the node is gone';
    if (!cache.get(spec.nodeName)?.isReady) return 'the node is not ready';
    const ready = findCondition(status.conditions, 'Ready');
    if (ready?.status !== 'True') return `its pool is not ready (${ready?.reason ?? 'nothing was heard of it yet'})`;
    return status.space ? null : 'its pool has not told its space yet';
  }

  #promisedIn({ metadata, spec: { poolName, nodeName } }: DiskPool): Share[] {
    const declared = this.#caches.images.cache.byIndex(indexes.pending, metadata.name);
    const known = new Set(declared.map((image) => keyOf(image.metadata)));
    const reserved = [...this.#reserved].filter(
      ([key, share]) => share.poolName === poolName && share.nodeName === nodeName && !known.has(key),
    );
    return [...declared.map(shareOf), ...reserved.map(([, share]) => share)];
  }
}

function shareOf({ spec }: DiskImage): Share {
  const { pool, nodeName = '', size = 0 } = spec;
  return { poolName: pool, nodeName, sizeBytes: size, isThick: isThickWhenNew(spec) };
}

/** Whether a new disk takes all of its space at once: only blank ones do, as others share blocks. */
export function isThickWhenNew({ preallocation, source }: DiskImage['spec']): boolean {
  return source.type === 'blank' && takesSpaceAtOnce(preallocation);
}

function sumOf(shares: readonly Share[]): number {
  return shares.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
