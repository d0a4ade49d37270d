import { diskImages, diskPools, diskSnapshots } from '../api/objects.ts';
import type { KubeClient } from '../kube/client.ts';
import { Controller, type ControllerObserver, type Reconcile } from '../kube/controller.ts';
import { nodeType } from '../kube/core-kinds.ts';
import type { EventRecorder } from '../kube/events.ts';
import { ResourceClient } from '../kube/resource-client.ts';
import type { Checkpoint } from '../lib/checkpoint.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/logger.ts';
import type { Caches } from '../reconcile/caches.ts';
import type { ControllerStep } from '../reconcile/controller-steps.ts';
import { GoneNodes } from '../reconcile/node-gone.ts';
import { DiskImagePlacer } from '../reconcile/place-disk-image.ts';
import type { PoolRooms } from '../reconcile/pool-rooms.ts';

export interface ElectedWork {
  /** Sends nothing any more once another may be elected. */
  client: KubeClient;
  systemNamespace: string;
  caches: Caches;
  rooms: PoolRooms;
  events: EventRecorder;
  orphanGraceMs: number;
  checkpoint: Checkpoint<ControllerStep>;
  clock: Clock;
  random: () => number;
  logger: Logger;
  observer: ControllerObserver;
  /** Aborts when the leadership is over. */
  signal: AbortSignal;
}

/** What one of all controllers does, until `signal` aborts. */
export async function runElectedWork(work: ElectedWork): Promise<void> {
  const { signal } = work;
  await Promise.all([placing(work), forgetting(work)].map((controller) => controller.run(signal)));
}

function placing(work: ElectedWork): Controller {
  const { client, caches, rooms, events, clock, checkpoint } = work;
  const images = new ResourceClient(client, diskImages);
  const placer = new DiskImagePlacer({ client: images, caches, rooms, events, clock, checkpoint });
  const controller = controllerOf(work, 'place-disk-image', placer.reconcile);
  placer.watch(controller);
  return controller;
}

function forgetting(work: ElectedWork): Controller {
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
  const controller = controllerOf(work, 'node-gone', nodes.reconcile);
  nodes.watch(controller);
  return controller;
}

/** One worker each: none of them has much to do, and what they decide on counts for what they decide next. */
function controllerOf(
  { clock, random, logger, observer }: ElectedWork,
  name: string,
  reconcile: Reconcile,
): Controller {
  return new Controller({ name, reconcile, workers: 1, clock, random, logger, observer });
}
