import { diskImages, diskPools, diskSnapshots } from '../../api/objects.ts';
import { certificateSigningRequestType } from '../../kube/kinds/certificate-requests.ts';
import type { KubeClient } from '../../kube/client/client.ts';
import { Controller, type ControllerObserver, type Reconcile } from '../../kube/controller.ts';
import { nodeType, persistentVolumeClaimType, persistentVolumeType, secretType } from '../../kube/kinds/core-kinds.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import type { ReflectorObserver } from '../../kube/cache/reflector.ts';
import { leaseType } from '../../kube/election/lease.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import {
  claimWishType,
  storageClassType,
  volumeAttributesClassType,
  volumeSnapshotType,
} from '../../kube/kinds/storage-kinds.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/logger.ts';
import { OrphanAdopter } from '../../reconcile/cluster/adopt-orphans.ts';
import { type Caches, createElectedCaches, type ElectedCaches } from '../../reconcile/cluster/caches.ts';
import type { ControllerStep } from '../../reconcile/cluster/controller-steps.ts';
import { HopelessClaims } from '../../reconcile/cluster/hopeless-claims.ts';
import { ImageCopies } from '../../reconcile/cluster/image-copies.ts';
import { GoneNodes } from '../../reconcile/cluster/node-gone.ts';
import { DiskImagePlacer } from '../../reconcile/cluster/place-disk-image.ts';
import { DiskSnapshotPlacer } from '../../reconcile/cluster/place-disk-snapshot.ts';
import type { PoolRooms } from '../../reconcile/cluster/pool-rooms.ts';
import { ClaimPopulator, type ClaimPopulatorOptions } from '../../reconcile/cluster/populate-claim.ts';
import { OriginResolver } from '../../reconcile/cluster/resolve-origin.ts';
import { CertificateSigner } from '../../reconcile/cluster/sign-certificates.ts';
import { TransferAuthorities } from '../../reconcile/cluster/transfer-authorities.ts';
import { SourceSnapshots } from '../../reconcile/cluster/source-snapshots.ts';
import { SilentNodes } from '../../reconcile/cluster/silent-nodes.ts';
import { readClass } from './claim-volumes.ts';
import { snapshotSweeper, volumeSweeper, watchSnapshots, watchVolumes } from '../../reconcile/cluster/sweepers.ts';

const populatorWorkers = 16;

export interface ElectedWork {
  /** Sends nothing any more once another may be elected. */
  client: KubeClient;
  systemNamespace: string;
  caches: Caches;
  rooms: PoolRooms;
  /** Makes volumes for claims that start from DiskImages. */
  createVolume: ClaimPopulatorOptions['createVolume'];
  events: EventRecorder;
  orphanGraceMs: number;
  checkpoint: Checkpoint<ControllerStep>;
  clock: Clock;
  random: () => number;
  logger: Logger;
  observer: ControllerObserver & ReflectorObserver;
  /** Aborts when the leadership is over. */
  signal: AbortSignal;
}

/** What one of all controllers does, until `signal` aborts. */
export async function runElectedWork(work: ElectedWork): Promise<void> {
  const { client, clock, random, logger, observer, signal } = work;
  const options = { client, clock, random, logger, observer };
  const caches = createElectedCaches(work.caches, options, work.systemNamespace);
  const parts = { ...work, caches };
  const makers = [
    placing,
    placingSnapshots,
    resolving,
    clearingSnapshots,
    copying,
    populating,
    explaining,
    signing,
    forgetting,
    listening,
    adopting,
    sweepingVolumes,
    sweepingSnapshots,
  ];
  const controllers = makers.map((make) => make(parts));
  const { volumes, claims, contents, namespaces, leases, requests } = caches;
  const reflectors = [volumes, claims, contents, namespaces, leases, requests];
  await Promise.all([...reflectors, ...controllers].map((one) => one.run(signal)));
}

type Parts = ElectedWork & { caches: ElectedCaches };

function placing(work: Parts): Controller {
  const { client, caches, systemNamespace, rooms, events, clock, checkpoint } = work;
  const images = new ResourceClient(client, diskImages);
  const placer = new DiskImagePlacer({ client: images, caches, systemNamespace, rooms, events, clock, checkpoint });
  return controllerOf(work, 'place-disk-image', placer);
}

function placingSnapshots(work: Parts): Controller {
  const placer = new DiskSnapshotPlacer({
    client: new ResourceClient(work.client, diskSnapshots),
    caches: work.caches,
    clock: work.clock,
  });
  return controllerOf(work, 'place-disk-snapshot', placer);
}

function resolving(work: Parts): Controller {
  const { client, caches, rooms, systemNamespace, clock } = work;
  const resolver = new OriginResolver({
    client: new ResourceClient(client, diskImages),
    volumeSnapshots: new ResourceClient(client, volumeSnapshotType),
    caches,
    rooms,
    sourceSnapshots: sourceSnapshots(work),
    systemNamespace,
    clock,
  });
  return controllerOf(work, 'resolve-origin', resolver);
}

function sourceSnapshots({ client, caches, events, checkpoint }: Parts): SourceSnapshots {
  const [images, snapshots] = [new ResourceClient(client, diskImages), new ResourceClient(client, diskSnapshots)];
  return new SourceSnapshots({ images, snapshots, caches, events, checkpoint });
}

function clearingSnapshots(work: Parts): Controller {
  return controllerOf(work, 'source-snapshot', sourceSnapshots(work));
}

function copying(work: Parts): Controller {
  const { client, caches, rooms, events, clock, checkpoint } = work;
  const copies = new ImageCopies({
    images: new ResourceClient(client, diskImages),
    nodes: new ResourceClient(client, nodeType),
    caches,
    rooms,
    events,
    clock,
    checkpoint,
  });
  return controllerOf(work, 'copy-image', copies);
}

function signing(work: Parts): Controller {
  const { client, caches, systemNamespace, clock, logger } = work;
  const signer = new CertificateSigner({
    requests: new ResourceClient(client, certificateSigningRequestType),
    reflector: caches.requests,
    authorities: new TransferAuthorities({
      secrets: new ResourceClient(client, secretType),
      namespace: systemNamespace,
      clock,
    }),
    systemNamespace,
    clock,
    logger,
  });
  return controllerOf(work, 'sign-certificates', signer);
}

function populating(work: Parts): Controller {
  const { client, caches, createVolume, events, checkpoint } = work;
  const populator = new ClaimPopulator({
    claims: new ResourceClient(client, persistentVolumeClaimType),
    wishes: new ResourceClient(client, claimWishType),
    storageClasses: new ResourceClient(client, storageClassType),
    attributesClasses: new ResourceClient(client, volumeAttributesClassType),
    volumes: new ResourceClient(client, persistentVolumeType),
    caches,
    createVolume,
    events,
    checkpoint,
  });
  // Each waits for its node.
  return controllerOf(work, 'populate-claim', populator, populatorWorkers);
}

function explaining(work: Parts): Controller {
  const { client, caches, rooms, events } = work;
  const claims = new HopelessClaims({
    wishes: new ResourceClient(client, claimWishType),
    storageClasses: new ResourceClient(client, storageClassType),
    caches,
    rooms,
    readClass,
    events,
  });
  return controllerOf(work, 'hopeless-claim', claims);
}

function forgetting(work: Parts): Controller {
  const { client, caches, events, clock, checkpoint, orphanGraceMs } = work;
  const nodes = new GoneNodes({
    images: new ResourceClient(client, diskImages),
    snapshots: new ResourceClient(client, diskSnapshots),
    pools: new ResourceClient(client, diskPools),
    nodes: new ResourceClient(client, nodeType),
    caches,
    events,
    graceMs: orphanGraceMs,
    clock,
    checkpoint,
  });
  return controllerOf(work, 'node-gone', nodes);
}

function listening(work: Parts): Controller {
  const { client, caches, systemNamespace, events, clock } = work;
  const nodes = new SilentNodes({
    pools: new ResourceClient(client, diskPools),
    leases: new ResourceClient(client, leaseType),
    nodes: new ResourceClient(client, nodeType),
    caches,
    systemNamespace,
    events,
    clock,
  });
  return controllerOf(work, 'silent-node', nodes);
}

function adopting(work: Parts): Controller {
  const { client, caches, systemNamespace, events, clock, checkpoint } = work;
  const adopter = new OrphanAdopter({
    images: new ResourceClient(client, diskImages),
    snapshots: new ResourceClient(client, diskSnapshots),
    pools: new ResourceClient(client, diskPools),
    caches,
    systemNamespace,
    events,
    clock,
    checkpoint,
  });
  return controllerOf(work, 'adopt-orphans', adopter);
}

function sweepingVolumes(work: Parts): Controller {
  const { client, caches, systemNamespace, orphanGraceMs: graceMs, events, clock, checkpoint } = work;
  const common = { client, caches, systemNamespace, graceMs, events, clock, checkpoint };
  const sweeper = volumeSweeper({ ...common, resources: new ResourceClient(client, diskImages) });
  const watch = (controller: Controller) => watchVolumes(controller, caches, systemNamespace);
  return controllerOf(work, 'sweep-volumes', { reconcile: sweeper.reconcile, watch });
}

function sweepingSnapshots(work: Parts): Controller {
  const { client, caches, systemNamespace, orphanGraceMs: graceMs, events, clock, checkpoint } = work;
  const common = { client, caches, systemNamespace, graceMs, events, clock, checkpoint };
  const sweeper = snapshotSweeper({ ...common, resources: new ResourceClient(client, diskSnapshots) });
  const watch = (controller: Controller) => watchSnapshots(controller, caches, systemNamespace);
  return controllerOf(work, 'sweep-snapshots', { reconcile: sweeper.reconcile, watch });
}

/** One worker each: few of them have much to do, and what they decide on counts for what they decide next. */
function controllerOf(
  { clock, random, logger, observer }: ElectedWork,
  name: string,
  reconciler: { reconcile: Reconcile; watch(controller: Controller): void },
  workers = 1,
): Controller {
  const { reconcile } = reconciler;
  const controller = new Controller({ name, reconcile, workers, clock, random, logger, observer });
  reconciler.watch(controller);
  return controller;
}
