import { diskImages, diskPools, diskSnapshots } from '../../src/api/objects.ts';
import { certificateSigningRequestType } from '../../src/kube/kinds/certificate-requests.ts';
import { ApiClient } from '../../src/kube/client/client.ts';
import {
  namespaceType,
  persistentVolumeClaimType,
  persistentVolumeType,
  secretType,
  volumeSnapshotContentType,
} from '../../src/kube/kinds/core-kinds.ts';
import { ResourceClient } from '../../src/kube/client/resource-client.ts';
import { storageClassType, volumeAttributesClassType, volumeSnapshotType } from '../../src/kube/kinds/storage-kinds.ts';
import { createCaches, type Caches } from '../../src/reconcile/cluster/caches.ts';
import type { ControllerStep } from '../../src/reconcile/cluster/controller-steps.ts';
import { PoolRooms } from '../../src/reconcile/cluster/pool-rooms.ts';
import { eventType } from '../../src/kube/events/event-series.ts';
import { EventSender } from '../../src/kube/events/events.ts';
import { claimVolumes } from '../../src/roles/controller-plugin/claim-volumes.ts';
import { ClusterDiskService } from '../../src/roles/cluster-disks/service.ts';
import type { LaminaError } from '../../src/lib/errors.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { runElectedWork } from '../../src/roles/controller-plugin/elected-work.ts';
import type { FakeObject, FakeType } from './api-objects.ts';
import { FakeApiServer, type FakeRequest } from './api-server.ts';
import type { Json } from './api-patch.ts';
import { FakeClusterNode, type FakeNodeOptions, manifest } from './cluster-node.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryLogger } from './memory-logger.ts';
import { silentObserver } from './silent-observer.ts';

/** What there is in a cluster beside what is ours. */
export const kubernetesTypes: readonly FakeType[] = [
  persistentVolumeType,
  persistentVolumeClaimType,
  volumeSnapshotContentType,
  namespaceType,
  storageClassType,
  volumeAttributesClassType,
  volumeSnapshotType,
  certificateSigningRequestType,
  secretType,
];

export const systemNamespace = 'lamina-system';

/** A cluster with a fake API server and fake nodes, and what a controller has of it. */
export class ClusterScene {
  readonly server: FakeApiServer;
  readonly clock = new ManualClock();
  readonly logger = new MemoryLogger();
  readonly stop = new AbortController();
  readonly #running: Promise<unknown>[] = [];
  readonly #clients: ApiClient[] = [];

  private constructor(types: readonly FakeType[]) {
    this.server = new FakeApiServer({ types: [diskImages, diskSnapshots, diskPools, ...types] });
  }

  static async start(types: readonly FakeType[] = kubernetesTypes): Promise<ClusterScene> {
    const scene = new ClusterScene(types);
    await scene.server.start();
    return scene;
  }

  async end(): Promise<void> {
    this.stop.abort();
    await Promise.all(this.#running);
    for (const client of this.#clients) client.close();
    await this.server.stop();
  }

  addNode(options: FakeNodeOptions): FakeClusterNode {
    return new FakeClusterNode(this.server, options);
  }

  connect(): ApiClient {
    const client = new ApiClient({ connection: this.server.connection, clock: this.clock, userAgent: 'lamina/test' });
    this.#clients.push(client);
    return client;
  }

  /** Runs until the scene ends. */
  run(work: (signal: AbortSignal) => Promise<unknown>): void {
    this.#running.push(work(this.stop.signal));
  }

  caches(client = this.connect()): Caches {
    const options = { client, clock: this.clock, random: () => 0, logger: this.logger };
    const caches = createCaches(options, systemNamespace);
    for (const reflector of Object.values(caches)) this.run((signal) => reflector.run(signal));
    return caches;
  }

  /** The service of one controller, with its caches complete. */
  async service(caches = this.caches(), checkpoint = (_: ControllerStep) => {}): Promise<ClusterDiskService> {
    const client = this.connect();
    for (const reflector of Object.values(caches)) await reflector.whenSynced(this.stop.signal);
    return new ClusterDiskService({
      namespace: systemNamespace,
      images: new ResourceClient(client, diskImages),
      snapshots: new ResourceClient(client, diskSnapshots),
      claims: new ResourceClient(client, persistentVolumeClaimType),
      caches,
      rooms: new PoolRooms(caches),
      clock: this.clock,
      checkpoint,
      timeoutMs: 50_000,
      stop: this.stop.signal,
    });
  }

  /** A controller that is elected, with its caches complete. @returns a function that ends it */
  async elect(caches = this.caches(), checkpoint = (_: ControllerStep) => {}): Promise<() => Promise<void>> {
    const client = this.connect();
    const { clock, logger } = this;
    const events = new EventSender({ client, clock, logger, reportingController: 'test', reportingInstance: 'test' });
    const service = await this.service(caches, checkpoint);
    const end = new AbortController();
    const signal = AbortSignal.any([end.signal, this.stop.signal]);
    const run = async () => {
      await runElectedWork({
        client,
        systemNamespace,
        caches,
        rooms: new PoolRooms(caches),
        createVolume: claimVolumes(service),
        events,
        orphanGraceMs: 600_000,
        checkpoint,
        clock,
        random: () => 0,
        logger,
        observer: silentObserver,
        signal,
      });
      await events.stop();
    };
    const running = run();
    this.run(() => running);
    return async () => {
      end.abort();
      await running;
    };
  }

  /** What was told about an object: `Warning NoRoom: …`. */
  eventsOf(name: string): string[] {
    return this.server.objects.list(eventType).flatMap((event) => {
      const { type, reason, note, regarding } = event as unknown as Record<string, string> & {
        regarding: { name: string };
      };
      return regarding.name === name ? [`${type} ${reason}: ${note}`] : [];
    });
  }

  /** Of those that change objects of ours. */
  get writes(): FakeRequest[] {
    return this.server.writes.filter(({ path }) => path.includes('lamina.storage'));
  }

  /** Waits until the API server was left alone for a while. */
  async settle(): Promise<void> {
    let before = -1;
    let quietLooks = 0;
    await until(() => {
      const { requests, pending } = this.server;
      quietLooks = pending === 0 && before === requests.length ? quietLooks + 1 : 0;
      before = requests.length;
      return quietLooks === 3;
    });
  }

  /** Lets time go by as it does, with all that happens meanwhile. */
  async pass(ms: number): Promise<void> {
    for (let leftMs = ms; leftMs > 0; leftMs -= 60_000) {
      await this.settle();
      const watches = this.server.watchCount;
      const stepMs = Math.min(leftMs, 60_000);
      this.clock.advance(stepMs);
      // As the API server does after some minutes.
      if (stepMs > 1000) this.server.endWatches();
      await until(() => this.server.watchCount === watches);
    }
    await this.settle();
  }

  /** Waits until the operation waits for its node, in that state, then lets its time be over. @returns its failure */
  async timeOut(operation: Promise<unknown>, isSo: () => boolean = () => true): Promise<LaminaError> {
    const failure = failureOf(operation);
    const { clock } = this;
    // And for no answer of the API server.
    await until(() => isSo() && clock.pending.includes(50_000) && !clock.pending.includes(30_000));
    clock.advance(50_000);
    return failure;
  }

  create(
    type: FakeType,
    metadata: { name: string; namespace?: string; [field: string]: unknown },
    spec: Json,
  ): FakeObject {
    return this.server.objects.create({ type, namespace: metadata.namespace ?? '' }, manifest(type, metadata, spec));
  }

  find(type: FakeType, name: string, namespace = type.namespaced ? systemNamespace : ''): FakeObject | undefined {
    return this.server.objects.list(type, namespace).find(({ metadata }) => metadata.name === name);
  }

  patch(type: FakeType, name: string, patch: Json, { namespace = systemNamespace, subresource = '' } = {}): FakeObject {
    return this.server.objects.mergePatch(
      { type, namespace: type.namespaced ? namespace : '', name, subresource },
      patch,
    );
  }

  remove(type: FakeType, name: string, namespace = systemNamespace): void {
    this.server.objects.remove({ type, namespace: type.namespaced ? namespace : '', name, subresource: '' });
  }
}

/** What a call ends with that must fail. */
export async function failureOf(call: Promise<unknown>): Promise<LaminaError> {
  return call.then(
    () => {
      throw new Error('the call succeeded, and should not');
    },
    (error: unknown) => error as LaminaError,
  );
}

/** Waits until `condition` holds. @throws after 10 s */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  if (!(await pollUntil(condition, { timeoutMs: 10_000, intervalMs: 2 })))
    throw new Error(`not within 10 s: ${String(condition)}`);
}
