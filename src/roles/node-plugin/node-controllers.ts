import {
  type DiskImage,
  diskImages,
  type DiskPool,
  diskPools,
  type DiskSnapshot,
  diskSnapshots,
} from '../../api/objects.ts';
import { Controller } from '../../kube/controller.ts';
import { keyOf } from '../../kube/objects.ts';
import { Reflector } from '../../kube/cache/reflector.ts';
import { indexes } from '../../reconcile/cluster/caches.ts';
import { diskIdOfImage } from '../../reconcile/identity.ts';
import type { NodeContext } from '../../reconcile/node/node-context.ts';
import { NodeDiskImages } from '../../reconcile/node/node-disk-image.ts';
import type { NodeDiskPools } from '../../reconcile/node/node-disk-pool.ts';
import { NodeDiskSnapshots } from '../../reconcile/node/node-disk-snapshot.ts';
import { keysOfWaiting, originOfImage, originOfSnapshot } from '../../reconcile/origin.ts';
import type { NodeParts } from './node-parts.ts';

/** What a node sees of the cluster. */
export interface NodeWatches {
  images: Reflector<DiskImage>;
  snapshots: Reflector<DiskSnapshot>;
  pools: Reflector<DiskPool>;
}

/** How many disks are made at once: each is a few processes that are short. */
const workers = 8;
/** Changes of a pool's content come in bursts. */
const collectMs = 500;

/** The objects of this node alone. */
export function createNodeWatches({
  options,
  cluster,
  clock,
  random,
  logger,
  metrics: observer,
}: NodeParts): NodeWatches {
  const { client, systemNamespace } = cluster;
  const common = { client, clock, random, logger, observer, fieldSelector: `spec.nodeName=${options.nodeName}` };
  const diskIdOf = (image: DiskImage) => [diskIdOfImage(image, systemNamespace)];
  const indexers = { [indexes.id]: diskIdOf, [indexes.origin]: originOfImage };
  return {
    images: new Reflector({ ...common, type: diskImages, indexers }),
    snapshots: new Reflector({ ...common, type: diskSnapshots, indexers: { [indexes.origin]: originOfSnapshot } }),
    pools: new Reflector({ ...common, type: diskPools }),
  };
}

/** The queues of a node's objects, and what puts them there. */
export class NodeControllers {
  readonly #watches: NodeWatches;
  /** The names of all pools. */
  readonly #poolNames: readonly string[];
  readonly #images: Controller;
  readonly #snapshots: Controller;
  readonly #pools: Controller;

  constructor(parts: NodeParts, watches: NodeWatches, context: NodeContext, reports: NodeDiskPools) {
    const { clock, random, logger, metrics: observer } = parts;
    const common = { clock, random, logger, observer };
    this.#watches = watches;
    this.#poolNames = context.pools.places.map(({ name }) => name);
    const makeImages = new NodeDiskImages(context).reconcile;
    this.#images = new Controller({ ...common, name: 'node-disk-image', workers, reconcile: makeImages });
    const takeSnapshots = new NodeDiskSnapshots(context).reconcile;
    this.#snapshots = new Controller({ ...common, name: 'node-disk-snapshot', workers, reconcile: takeSnapshots });
    this.#pools = new Controller({ ...common, name: 'node-disk-pool', workers: 1, reconcile: reports.reconcile });
    this.#watch();
    this.#wakeWaiting();
    this.wakePools();
  }

  /** Works until `stop`. */
  async run(stop: AbortSignal): Promise<void> {
    await Promise.all([this.#images.run(stop), this.#snapshots.run(stop), this.#pools.run(stop)]);
  }

  /** Has a DiskImage looked at. */
  wakeImage(key: string): void {
    this.#images.enqueue(key);
  }

  /** Has the object of a disk looked at. */
  wakeDisk(diskId: string): void {
    for (const { metadata } of this.#watches.images.cache.byIndex(indexes.id, diskId)) {
      this.#images.enqueue(keyOf(metadata));
    }
  }

  /** Has every DiskPool looked at. */
  wakePools(): void {
    for (const name of this.#poolNames) this.#pools.enqueue(name);
  }

  /** Has everything looked at that may be in a pool. */
  wakeAllOf(pool: string): void {
    this.#pools.enqueue(pool);
    for (const { metadata, spec } of this.#watches.images.cache.list()) {
      if (spec.pool === pool) this.#images.enqueue(keyOf(metadata));
    }
    for (const { metadata } of this.#watches.snapshots.cache.list()) this.#snapshots.enqueue(keyOf(metadata));
  }

  #watch(): void {
    const { images, snapshots, pools } = this.#watches;
    this.#images.watch(images, ({ metadata }) => [keyOf(metadata)]);
    this.#snapshots.watch(snapshots, ({ metadata }) => [keyOf(metadata)]);
    this.#pools.watch(pools, ({ spec }) => [spec.poolName]);
    // What has no object is told when all objects are known.
    this.#pools.watch(images, () => []);
    this.#pools.watch(snapshots, () => []);
    images.subscribe(({ before, after }) => {
      for (const image of [before, after]) if (image) this.#pools.enqueueAfter(image.spec.pool, collectMs);
    });
    snapshots.subscribe(() => {
      for (const name of this.#poolNames) this.#pools.enqueueAfter(name, collectMs);
    });
  }

  /** Has those looked at again that wait for an object which has changed. */
  #wakeWaiting(): void {
    const { images, snapshots } = this.#watches;
    const imagesFrom = (origin: string) => keysOfWaiting(images.cache.byIndex(indexes.origin, origin));
    const snapshotsOf = (origin: string) => keysOfWaiting(snapshots.cache.byIndex(indexes.origin, origin));
    this.#images.watch(images, ({ metadata }) => imagesFrom(`DiskImage ${keyOf(metadata)}`));
    this.#images.watch(snapshots, ({ metadata }) => imagesFrom(`DiskSnapshot ${keyOf(metadata)}`));
    this.#snapshots.watch(images, ({ metadata }) => snapshotsOf(`DiskImage ${keyOf(metadata)}`));
  }
}
