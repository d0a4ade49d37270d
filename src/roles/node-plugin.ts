import path from 'node:path';
import { driverName, nodeLeaseLabels, nodeLeaseName } from '../api/names.ts';
import {
  type DiskImage,
  diskImages,
  type DiskPool,
  diskPools,
  type DiskSnapshot,
  diskSnapshots,
} from '../api/objects.ts';
import { freezeSteps, stagingSteps } from '../engine/staging-steps.ts';
import { engineSteps } from '../engine/steps.ts';
import { Controller } from '../kube/controller.ts';
import { configMapType, secretType } from '../kube/core-kinds.ts';
import { EventSender } from '../kube/events.ts';
import { keepRenewed } from '../kube/heartbeat.ts';
import { untilInstalledSchema } from '../kube/installed-schema.ts';
import { keyOf } from '../kube/objects.ts';
import { Reflector } from '../kube/reflector.ts';
import { ResourceClient } from '../kube/resource-client.ts';
import { type Checkpoint, listSteps } from '../lib/checkpoint.ts';
import type { Clock } from '../lib/clock.ts';
import { withDeadline } from '../lib/deadline.ts';
import { killingCheckpoint } from '../lib/kill-at.ts';
import type { Logger } from '../lib/logger.ts';
import { TokenBucket } from '../lib/token-bucket.ts';
import { indexes } from '../reconcile/caches.ts';
import { PoolConfirmer } from '../reconcile/confirm-pool.ts';
import { diskIdOfImage } from '../reconcile/identity.ts';
import type { NodeContext } from '../reconcile/node-context.ts';
import { ImageImports } from '../reconcile/image-imports.ts';
import { LayerFetches } from '../reconcile/layer-fetches.ts';
import { NodeDiskImages } from '../reconcile/node-disk-image.ts';
import { NodeDiskPools } from '../reconcile/node-disk-pool.ts';
import { NodeDiskSnapshots } from '../reconcile/node-disk-snapshot.ts';
import { NodePools } from '../reconcile/node-pools.ts';
import { keysOfWaiting, originOfImage, originOfSnapshot } from '../reconcile/origin.ts';
import { nodeSteps } from '../reconcile/node-steps.ts';
import { imageSteps, storeSteps } from '../store/steps.ts';
import { ImportGate } from '../transfer/import/import-gate.ts';
import { importSteps, transferSteps } from '../transfer/steps.ts';
import type { NodeMetrics } from '../telemetry/metrics.ts';
import type { PoolReading } from '../telemetry/pool-metrics.ts';
import type { Cluster } from './cluster.ts';
import type { NodeOptions } from './node.ts';
import { openNodePool } from './node-pool.ts';
import { NodeTransfers } from './node-transfers.ts';
import { readNodePools } from './pool-reading.ts';
import { PoolsNodeService } from './pools-node-service.ts';

export interface NodePluginParts {
  options: NodeOptions;
  cluster: Cluster;
  clock: Clock;
  random: () => number;
  logger: Logger;
  metrics: NodeMetrics;
}

interface Watched {
  images: Reflector<DiskImage>;
  snapshots: Reflector<DiskSnapshot>;
  pools: Reflector<DiskPool>;
}

interface Controllers {
  images: Controller;
  snapshots: Controller;
  pools: Controller;
}

const allSteps = listSteps({
  ...storeSteps,
  ...imageSteps,
  ...engineSteps,
  ...stagingSteps,
  ...freezeSteps,
  ...nodeSteps,
  ...importSteps,
  ...transferSteps,
});

/** How many disks are made at once: each is a few processes that are short. */
const workers = 8;
/** Changes of a pool's content come in bursts. */
const collectMs = 500;
/** A web server that sends nothing for so long is asked again. */
const stallMs = 30_000;
/** How long the last words to the API server may take. */
const farewellMs = 3000;

/** The pools of a node and the reconcilers that work on them, wired to each other. */
export class NodePlugin {
  /** For kubelet. Needs no API server. */
  readonly service: PoolsNodeService;
  readonly #parts: NodePluginParts;
  readonly #checkpoint: Checkpoint<(typeof allSteps)[number]>;
  readonly #pools: NodePools;
  readonly #watched: Watched;
  readonly #events: EventSender;
  readonly #imports: ImageImports;
  readonly #fetches: LayerFetches;
  readonly #transfers: NodeTransfers;
  readonly #reports: NodeDiskPools;
  readonly #controllers: Controllers;
  #isUnderstood = true;

  constructor(parts: NodePluginParts) {
    const { options, cluster, clock, logger, metrics } = parts;
    const { nodeName } = options;
    this.#parts = parts;
    this.#checkpoint = killingCheckpoint(options.killAt, allSteps);
    this.#watched = watchedBy(parts);
    this.#pools = this.#createPools();
    this.service = new PoolsNodeService(nodeName, this.#pools, (diskId) => this.#lookAt(diskId));
    const names = { reportingController: `${driverName}/node`, reportingInstance: nodeName };
    this.#events = new EventSender({ client: cluster.client, clock, logger, observer: metrics, ...names });
    this.#imports = this.#createImports();
    this.#transfers = this.#createTransfers();
    this.#fetches = new LayerFetches({
      pools: new ResourceClient(cluster.client, diskPools),
      receiverOf: this.#transfers.receiverOf,
      onEnded: (key) => this.#controllers.images.enqueue(key),
    });
    const context = this.#createContext();
    const client = new ResourceClient(cluster.client, diskPools);
    const transferAddress = () => this.#transfers.address;
    const pools = this.#watched.pools.cache;
    this.#reports = new NodeDiskPools({ context, pools, client, version: options.version, transferAddress });
    this.#controllers = this.#createControllers(context);
  }

  /** Whether every pool is served, or has said why it is not, and the cluster's definitions are not wrong ones. */
  get isReady(): boolean {
    return this.#isUnderstood && this.#pools.places.every(({ name }) => this.#pools.state(name)?.kind !== 'starting');
  }

  /** For metrics. */
  readPools(): Promise<PoolReading[]> {
    return readNodePools(this.#pools, this.#watched.pools.cache, this.#parts.options.nodeName);
  }

  /**
   * Works until `stop`.
   *
   * @param beforeEnd ends what uses the pools, before they are given up
   */
  async run(stop: AbortSignal, beforeEnd: () => Promise<void>): Promise<void> {
    const ended = new AbortController();
    const { images, snapshots, pools } = this.#watched;
    const { images: makers, snapshots: takers, pools: reporters } = this.#controllers;
    const reflectors = [images.run(stop), snapshots.run(stop), pools.run(stop)];
    const serving = this.#pools.run(ended.signal);
    const transferring = this.#transfers.run(stop);
    const renewing = this.#keepHeard(stop);
    await this.#untilUnderstood(stop);
    await Promise.all([makers.run(stop), takers.run(stop), reporters.run(stop)]);
    await Promise.all([this.#imports.stop(), this.#fetches.stop(), transferring]);
    await beforeEnd();
    await this.#sayGoodbye();
    ended.abort();
    await Promise.all([serving, renewing, ...reflectors, this.#events.stop()]);
  }

  /** Shows the controller that this plugin is alive, whatever else it can do. */
  #keepHeard(stop: AbortSignal): Promise<void> {
    const { options, cluster, clock, random, logger } = this.#parts;
    const { nodeName: identity, heartbeatSeconds } = options;
    const lease = { namespace: cluster.systemNamespace, name: nodeLeaseName(identity), labels: nodeLeaseLabels };
    const everyMs = heartbeatSeconds * 1000;
    return keepRenewed({ client: cluster.client, lease, identity, everyMs, clock, random, logger }, stop);
  }

  /** What the definitions do not know would be dropped silently. kubelet is served meanwhile: what is in use must go on. */
  async #untilUnderstood(stop: AbortSignal): Promise<void> {
    const { cluster, clock, random, logger } = this.#parts;
    const onWrong = (error: Error) => {
      this.#isUnderstood = false;
      logger.error({ error: error.message }, 'objects are left alone until their definitions are the right ones');
    };
    try {
      await untilInstalledSchema({ client: cluster.client, clock, random, logger }, stop, onWrong);
      this.#isUnderstood = true;
    } catch (error) {
      if (!stop.aborted) throw error;
    }
  }

  async #sayGoodbye(): Promise<void> {
    const { clock, logger } = this.#parts;
    const deadline = { clock, timeoutMs: farewellMs, what: 'telling that the node plugin stops' };
    try {
      await withDeadline(deadline, async (signal) => {
        for (const { name } of this.#pools.places) await this.#reports.reportStopped(name, signal);
      });
    } catch (error) {
      logger.warn({ error }, 'the DiskPools do not say that the node plugin has stopped');
    }
  }

  #createPools(): NodePools {
    const { options, cluster, clock, random, logger, metrics } = this.#parts;
    const { nodeName } = options;
    const pools = this.#watched.pools;
    const confirmer = new PoolConfirmer({ nodeName, client: cluster.client, pools, clock, random, logger });
    const poolOptions = {
      nodeName,
      runDir: options.runDir,
      engineDir: path.join(options.runDir, 'engine'),
      policy: options,
      checkpoint: this.#checkpoint,
      logger,
      assertNew: confirmer.assertNew,
      onFrozen: metrics.observeFreeze,
      onMerged: metrics.observeMerge,
      onDaemonDeath: (diskId: string) => {
        metrics.countEngineDeath();
        this.#lookAt(diskId);
      },
    };
    return new NodePools({
      places: options.pools,
      open: (place, signal) => openNodePool(place, poolOptions, signal),
      confirm: (place, pool, signal) => confirmer.confirm(place, pool, signal),
      onChange: (name) => this.#lookAtPool(name),
      clock,
      logger,
    });
  }

  #createImports(): ImageImports {
    const { options, clock } = this.#parts;
    return new ImageImports({
      limit: new TokenBucket(options.importRate, clock),
      gate: new ImportGate(options.imports),
      clock,
      checkpoint: this.#checkpoint,
      stallMs,
      mayReachItself: false,
      onEnded: (key) => this.#controllers.images.enqueue(key),
    });
  }

  #createTransfers(): NodeTransfers {
    const { options, cluster, clock, random, logger } = this.#parts;
    return new NodeTransfers({
      nodeName: options.nodeName,
      listen: options.transferListen,
      address: options.transferAddress,
      rate: options.transferRate,
      client: cluster.client,
      pools: () => this.#pools,
      onServing: () => {
        for (const { name } of this.#pools.places) this.#controllers.pools.enqueue(name);
      },
      checkpoint: this.#checkpoint,
      clock,
      random,
      logger,
    });
  }

  #createContext(): NodeContext {
    const { options, cluster, clock } = this.#parts;
    return {
      nodeName: options.nodeName,
      systemNamespace: cluster.systemNamespace,
      pools: this.#pools,
      images: this.#watched.images.cache,
      snapshots: this.#watched.snapshots.cache,
      imageClient: new ResourceClient(cluster.client, diskImages),
      snapshotClient: new ResourceClient(cluster.client, diskSnapshots),
      imports: this.#imports,
      fetches: this.#fetches,
      importSecrets: {
        secrets: new ResourceClient(cluster.client, secretType),
        configMaps: new ResourceClient(cluster.client, configMapType),
      },
      events: this.#events,
      clock,
      checkpoint: this.#checkpoint,
    };
  }

  #createControllers(context: NodeContext): Controllers {
    const { clock, random, logger, metrics: observer } = this.#parts;
    const common = { clock, random, logger, observer };
    const makeImages = new NodeDiskImages(context).reconcile;
    const images = new Controller({ ...common, name: 'node-disk-image', workers, reconcile: makeImages });
    const takeSnapshots = new NodeDiskSnapshots(context).reconcile;
    const snapshots = new Controller({ ...common, name: 'node-disk-snapshot', workers, reconcile: takeSnapshots });
    const pools = new Controller({ ...common, name: 'node-disk-pool', workers: 1, reconcile: this.#reports.reconcile });
    images.watch(this.#watched.images, ({ metadata }) => [keyOf(metadata)]);
    snapshots.watch(this.#watched.snapshots, ({ metadata }) => [keyOf(metadata)]);
    pools.watch(this.#watched.pools, ({ spec }) => [spec.poolName]);
    this.#wakeWaiting(images, snapshots);
    // What has no object is told when all objects are known.
    pools.watch(this.#watched.images, () => []);
    pools.watch(this.#watched.snapshots, () => []);
    this.#watched.images.subscribe(({ before, after }) => {
      for (const image of [before, after]) if (image) pools.enqueueAfter(image.spec.pool, collectMs);
    });
    this.#watched.snapshots.subscribe(() => {
      for (const { name } of this.#pools.places) pools.enqueueAfter(name, collectMs);
    });
    for (const { name } of this.#pools.places) pools.enqueue(name);
    return { images, snapshots, pools };
  }

  /** Has those looked at again that wait for an object which has changed. */
  #wakeWaiting(images: Controller, snapshots: Controller): void {
    const imagesFrom = (origin: string) => keysOfWaiting(this.#watched.images.cache.byIndex(indexes.origin, origin));
    const snapshotsOf = (origin: string) =>
      keysOfWaiting(this.#watched.snapshots.cache.byIndex(indexes.origin, origin));
    images.watch(this.#watched.images, ({ metadata }) => imagesFrom(`DiskImage ${keyOf(metadata)}`));
    images.watch(this.#watched.snapshots, ({ metadata }) => imagesFrom(`DiskSnapshot ${keyOf(metadata)}`));
    snapshots.watch(this.#watched.images, ({ metadata }) => snapshotsOf(`DiskImage ${keyOf(metadata)}`));
  }

  /** Has the object of a disk looked at. */
  #lookAt(diskId: string): void {
    for (const { metadata } of this.#watched.images.cache.byIndex(indexes.id, diskId)) {
      this.#controllers.images.enqueue(keyOf(metadata));
    }
  }

  /** Has everything looked at that may be in a pool. */
  #lookAtPool(name: string): void {
    this.#controllers.pools.enqueue(name);
    for (const { metadata, spec } of this.#watched.images.cache.list()) {
      if (spec.pool === name) this.#controllers.images.enqueue(keyOf(metadata));
    }
    for (const { metadata } of this.#watched.snapshots.cache.list()) {
      this.#controllers.snapshots.enqueue(keyOf(metadata));
    }
  }
}

/** The objects of this node alone. */
function watchedBy({ options, cluster, clock, random, logger, metrics: observer }: NodePluginParts): Watched {
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
