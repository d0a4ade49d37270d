import path from 'node:path';
import { driverName } from '../../api/names.ts';
import { diskImages, diskPools, diskSnapshots } from '../../api/objects.ts';
import { freezeSteps, stagingSteps } from '../../engine/staging/staging-steps.ts';
import { engineSteps } from '../../engine/attach/steps.ts';
import { certificateSigningRequestType } from '../../kube/kinds/certificate-requests.ts';
import { configMapType, secretType, volumeSnapshotContentType } from '../../kube/kinds/core-kinds.ts';
import { EventSender } from '../../kube/events/events.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { volumeSnapshotType } from '../../kube/kinds/storage-kinds.ts';
import { TokenReview } from '../../kube/client/token-review.ts';
import { type Checkpoint, listSteps } from '../../lib/checkpoint.ts';
import { killingCheckpoint } from '../../lib/kill-at.ts';
import { TokenBucket } from '../../lib/token-bucket.ts';
import { PoolConfirmer } from '../../reconcile/node/confirm-pool.ts';
import { ExportedContents } from '../../reconcile/node/exported-content.ts';
import type { NodeContext } from '../../reconcile/node/node-context.ts';
import { type CommonImportContext, ImageImports } from '../../reconcile/node/image-imports.ts';
import { ImageUploads } from '../../reconcile/node/image-uploads.ts';
import { LayerFetches } from '../../reconcile/node/layer-fetches.ts';
import { NodeCredentials } from '../../reconcile/node/node-credentials.ts';
import { NodeDiskPools } from '../../reconcile/node/node-disk-pool.ts';
import { NodePools } from '../../reconcile/node/node-pools.ts';
import { nodeSteps } from '../../reconcile/node/node-steps.ts';
import { IncomingSweeper } from '../../reconcile/node/sweep-incoming.ts';
import { UploadSinks } from '../../reconcile/node/upload-sinks.ts';
import { accessOf } from '../../reconcile/node/user-access.ts';
import { imageSteps, storeSteps } from '../../store/steps.ts';
import { ImportGate } from '../../transfer/import/import-gate.ts';
import { importSteps, transferSteps } from '../../transfer/layers/steps.ts';
import { createNodeWatches, NodeControllers, type NodeWatches } from './node-controllers.ts';
import { NodeExports } from './node-exports.ts';
import type { NodeParts } from './node-parts.ts';
import { openNodePool } from './node-pool.ts';
import { NodeTransfers } from './node-transfers.ts';
import { PoolsNodeService } from './pools-node-service.ts';

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

/** A web server that sends nothing for so long is asked again. */
const stallMs = 30_000;

/** The pools of a node and the reconcilers that work on them, wired to each other. */
export class NodeAssembly {
  /** For kubelet. Needs no API server. */
  readonly service: PoolsNodeService;
  readonly pools: NodePools;
  readonly watches: NodeWatches;
  readonly events: EventSender;
  readonly imports: ImageImports;
  readonly uploads: ImageUploads;
  readonly fetches: LayerFetches;
  readonly credentials: NodeCredentials;
  readonly transfers: NodeTransfers;
  readonly exports: NodeExports;
  readonly reports: NodeDiskPools;
  readonly controllers: NodeControllers;
  readonly sweeper: IncomingSweeper;
  readonly #parts: NodeParts;
  readonly #checkpoint: Checkpoint<(typeof allSteps)[number]>;

  constructor(parts: NodeParts) {
    const { options, cluster, clock, random, logger, metrics } = parts;
    const { nodeName } = options;
    this.#parts = parts;
    this.#checkpoint = killingCheckpoint(options.killAt, allSteps);
    this.watches = createNodeWatches(parts);
    this.pools = this.#createPools();
    this.service = new PoolsNodeService(nodeName, this.pools, (diskId) => this.controllers.wakeDisk(diskId));
    const names = { reportingController: `${driverName}/node`, reportingInstance: nodeName };
    this.events = new EventSender({ client: cluster.client, clock, logger, observer: metrics, ...names });
    const importContext = this.#createImportContext();
    const wakeImage = (key: string) => this.controllers.wakeImage(key);
    const jobs = { clock, random, onEnded: wakeImage };
    this.imports = new ImageImports({ ...importContext, ...jobs, begin: metrics.beginTransfer });
    this.uploads = new ImageUploads({
      ...importContext,
      isEnabled: options.exportListen !== null,
      onChange: wakeImage,
    });
    this.credentials = this.#createCredentials();
    this.transfers = this.#createTransfers();
    const client = new ResourceClient(cluster.client, diskPools);
    this.fetches = new LayerFetches({ pools: client, receiverOf: this.transfers.receiverOf, ...jobs });
    const context = this.#createContext();
    this.exports = this.#createExports(context);
    const pools = this.watches.pools.cache;
    this.reports = new NodeDiskPools({
      context,
      pools,
      client,
      version: options.version,
      transferAddress: () => this.transfers.address,
      exportReport: () => this.exports.report,
    });
    this.controllers = new NodeControllers(parts, this.watches, context, this.reports);
    this.sweeper = this.#createSweeper();
  }

  #createPools(): NodePools {
    const { options, cluster, clock, random, logger, metrics } = this.#parts;
    const { nodeName } = options;
    const pools = this.watches.pools;
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
      onPaused: (diskId: string) => {
        this.controllers.wakeDisk(diskId);
        this.controllers.wakePools();
      },
      longestPauseMs: options.longestPauseSeconds * 1000,
      onDaemonDeath: (diskId: string) => {
        metrics.countEngineDeath();
        this.controllers.wakeDisk(diskId);
      },
    };
    return new NodePools({
      places: options.pools,
      open: (place, signal) => openNodePool(place, poolOptions, signal),
      confirm: (place, pool, signal) => confirmer.confirm(place, pool, signal),
      onChange: (name) => this.controllers.wakeAllOf(name),
      clock,
      logger,
    });
  }

  #createImportContext(): CommonImportContext {
    const { options, clock } = this.#parts;
    return {
      limit: new TokenBucket(options.importRate, clock),
      gate: new ImportGate(options.imports),
      clock,
      checkpoint: this.#checkpoint,
      stallMs,
      mayReachItself: false,
    };
  }

  #createCredentials(): NodeCredentials {
    const { options, cluster, clock, random, logger } = this.#parts;
    return new NodeCredentials({
      requests: new ResourceClient(cluster.client, certificateSigningRequestType),
      nodeName: options.nodeName,
      onChange: async (credentials) => {
        await Promise.all([this.transfers.serve(credentials), this.exports.serve(credentials)]);
      },
      clock,
      random,
      logger,
    });
  }

  #createTransfers(): NodeTransfers {
    const { options, clock, logger, metrics } = this.#parts;
    return new NodeTransfers({
      listen: options.transferListen,
      address: options.transferAddress,
      rate: options.transferRate,
      credentials: () => this.credentials.current(),
      begin: metrics.beginTransfer,
      pools: () => this.pools,
      onServing: () => this.controllers.wakePools(),
      checkpoint: this.#checkpoint,
      clock,
      logger,
    });
  }

  #createExports(context: NodeContext): NodeExports {
    const { options, cluster, clock, logger, metrics } = this.#parts;
    const { client, systemNamespace } = cluster;
    const reviews = new TokenReview({ client, clock });
    const pools = new ResourceClient(client, diskPools);
    const contents = new ExportedContents({
      context,
      diskPools: pools,
      volumeSnapshots: new ResourceClient(client, volumeSnapshotType),
      contents: new ResourceClient(client, volumeSnapshotContentType),
    });
    return new NodeExports({
      nodeName: options.nodeName,
      listen: options.exportListen,
      address: options.exportAddress,
      pod: options.exportPod === null ? null : { namespace: systemNamespace, name: options.exportPod },
      rate: options.transferRate,
      runDir: options.runDir,
      authorize: (token, request) => reviews.authorize(token, accessOf(request)),
      findExport: contents.find,
      findSink: new UploadSinks(context, pools).find,
      begin: metrics.beginTransfer,
      onServing: () => this.controllers.wakePools(),
      clock,
      logger,
    });
  }

  #createSweeper(): IncomingSweeper {
    const { cluster, clock, logger } = this.#parts;
    const { systemNamespace } = cluster;
    return new IncomingSweeper({
      images: this.watches.images,
      systemNamespace,
      served: () => this.pools.served,
      removeAbandonedLayers: (pool, before) => this.transfers.removeAbandoned(pool, before),
      clock,
      logger,
    });
  }

  #createContext(): NodeContext {
    const { options, cluster, clock } = this.#parts;
    return {
      nodeName: options.nodeName,
      systemNamespace: cluster.systemNamespace,
      pools: this.pools,
      images: this.watches.images.cache,
      snapshots: this.watches.snapshots.cache,
      imageClient: new ResourceClient(cluster.client, diskImages),
      snapshotClient: new ResourceClient(cluster.client, diskSnapshots),
      imports: this.imports,
      uploads: this.uploads,
      fetches: this.fetches,
      importSecrets: {
        secrets: new ResourceClient(cluster.client, secretType),
        configMaps: new ResourceClient(cluster.client, configMapType),
      },
      events: this.events,
      clock,
      checkpoint: this.#checkpoint,
    };
  }
}
