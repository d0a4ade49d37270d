import { driverName } from '../../api/names.ts';
import { diskImages, diskSnapshots } from '../../api/objects.ts';
import type { ControllerObserver } from '../../kube/controller.ts';
import { persistentVolumeClaimType } from '../../kube/kinds/core-kinds.ts';
import { runElected } from '../../kube/election/election.ts';
import { type EventObserver, EventSender } from '../../kube/events/events.ts';
import { fencedClient } from '../../kube/election/fenced-client.ts';
import type { ReflectorObserver } from '../../kube/cache/reflector.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/logger.ts';
import { type Caches, createCaches } from '../../reconcile/cluster/caches.ts';
import type { ControllerStep } from '../../reconcile/cluster/controller-steps.ts';
import { PoolRooms } from '../../reconcile/cluster/pool-rooms.ts';
import { claimVolumes } from './claim-volumes.ts';
import type { Cluster } from '../cluster.ts';
import type { ObjectReading } from '../../telemetry/object-metrics.ts';
import { operationTimeoutMs } from '../cluster-disks/context.ts';
import { ClusterDiskService } from '../cluster-disks/service.ts';
import { readObjects } from './object-reading.ts';
import { runElectedWork } from './elected-work.ts';

/** What metrics are made of. */
export interface ControllerPluginObserver extends ControllerObserver, ReflectorObserver, EventObserver {
  setLeader(isLeader: boolean): void;
}

export interface ControllerPluginParts {
  cluster: Cluster;
  /** Of this process among all candidates. */
  identity: string;
  orphanGraceMs: number;
  checkpoint: Checkpoint<ControllerStep>;
  clock: Clock;
  random: () => number;
  logger: Logger;
  observer: ControllerPluginObserver;
}

const leaseName = 'lamina-controller';

/** The caches of a controller, what CSI asks it for, and what it does while it is elected, wired to each other. */
export class ControllerPlugin {
  /** For the sidecars. */
  readonly service: ClusterDiskService;
  readonly #parts: ControllerPluginParts;
  readonly #caches: Caches;
  readonly #rooms: PoolRooms;
  readonly #events: EventSender;
  /** Ends all waiting. */
  readonly #ending = new AbortController();

  constructor(parts: ControllerPluginParts) {
    const { cluster, identity, checkpoint, clock, random, logger, observer } = parts;
    const { client } = cluster;
    this.#parts = parts;
    this.#caches = createCaches({ client, clock, random, logger, observer }, cluster.systemNamespace);
    this.#rooms = new PoolRooms(this.#caches);
    const reporter = { reportingController: `${driverName}/controller`, reportingInstance: identity };
    this.#events = new EventSender({ client, clock, logger, observer, ...reporter });
    this.service = new ClusterDiskService({
      namespace: cluster.systemNamespace,
      images: new ResourceClient(client, diskImages),
      snapshots: new ResourceClient(client, diskSnapshots),
      claims: new ResourceClient(client, persistentVolumeClaimType),
      caches: this.#caches,
      rooms: this.#rooms,
      clock,
      checkpoint,
      timeoutMs: operationTimeoutMs,
      stop: this.#ending.signal,
    });
  }

  /** Whether all that there is in the cluster is known. */
  get isReady(): boolean {
    return Object.values(this.#caches).every(({ hasSynced }) => hasSynced);
  }

  /** How many objects of ours there are, and which are not well. */
  readObjects(): ObjectReading[] {
    const { images, snapshots, pools } = this.#caches;
    const now = this.#parts.clock.now();
    return [
      ...readObjects('DiskImage', images.cache, now),
      ...readObjects('DiskSnapshot', snapshots.cache, now),
      ...readObjects('DiskPool', pools.cache, now),
    ];
  }

  /**
   * Works until `stop`, or until an election is lost: then the process is to end, so that it starts anew.
   *
   * @param beforeEnd ends what uses the service
   */
  async run(stop: AbortSignal, beforeEnd: () => Promise<void>): Promise<'ended' | 'lost'> {
    const reflectors = Object.values(this.#caches).map((reflector) => reflector.run(this.#ending.signal));
    try {
      return await this.#runElected(stop);
    } finally {
      this.#ending.abort();
      await beforeEnd();
      await Promise.all([...reflectors, this.#events.stop()]);
    }
  }

  async #runElected(stop: AbortSignal): Promise<'ended' | 'lost'> {
    const { cluster, identity, checkpoint, clock, random, logger, observer, orphanGraceMs } = this.#parts;
    const { client, systemNamespace } = cluster;
    const lease = { namespace: systemNamespace, name: leaseName };
    return runElected(
      { client, clock, random, logger, lease, identity },
      async (leadership) => {
        observer.setLeader(true);
        try {
          await runElectedWork({
            client: fencedClient(client, leadership),
            systemNamespace,
            caches: this.#caches,
            rooms: this.#rooms,
            createVolume: claimVolumes(this.service),
            events: this.#events,
            orphanGraceMs,
            checkpoint,
            clock,
            random,
            logger,
            observer,
            signal: leadership.signal,
          });
        } finally {
          observer.setLeader(false);
        }
      },
      stop,
    );
  }
}
