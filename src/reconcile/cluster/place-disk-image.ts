import type { DiskImage, DiskPool, DiskSnapshot } from '../../api/objects.ts';
import { patchObject, writeStatus } from '../../kube/apply.ts';
import { ConditionReport, findCondition } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import { type ElectedCaches, indexes } from './caches.ts';
import type { ControllerStep } from './controller-steps.ts';
import { chooseNode, type PlacementWish } from './placement.ts';
import { isThickWhenNew, type PoolRooms } from './pool-rooms.ts';
import { type SourceNode, sourceNodeOf } from './source-node.ts';

export interface DiskImagePlacerOptions {
  client: ResourceClient<DiskImage>;
  caches: ElectedCaches;
  systemNamespace: string;
  rooms: PoolRooms;
  events: EventRecorder;
  clock: Clock;
  checkpoint: Checkpoint<ControllerStep>;
}

/** What waits is looked at again after this, as room can also come from disks that are not made after all. */
const retryMs = 60_000;

type Choice =
  | { nodeName: string; reason: 'NodeChosen' | 'SourceNode'; message: string }
  | { reason: 'WaitingForSource' | 'SourceForbidden' | 'PoolNotFound' | 'NoRoom'; message: string };

/** Chooses the node of DiskImages that were declared without one, or says why there is none. */
export class DiskImagePlacer {
  readonly #options: DiskImagePlacerOptions;

  constructor(options: DiskImagePlacerOptions) {
    this.#options = options;
  }

  /** Has DiskImages reconciled when they, their sources, or the pools that they could be in change. */
  watch(controller: Controller): void {
    const { images, snapshots, pools, nodes, volumes, contents } = this.#options.caches;
    const heirsOf = ({ kind, metadata }: DiskImage | DiskSnapshot) =>
      unplacedOf(images.cache.byIndex(indexes.origin, `${kind} ${keyOf(metadata)}`));
    const unplaced = () => unplacedOf(images.cache.byIndex(indexes.unplaced, ''));
    const wake = () => unplaced().forEach((key) => controller.enqueue(key));
    controller.watch(images, (image) => [keyOf(image.metadata), ...heirsOf(image)]);
    controller.watch(snapshots, heirsOf);
    controller.watch(volumes, unplaced);
    // These change all the time, in what does not matter here.
    controller.watch(pools, () => []);
    controller.watch(nodes, () => []);
    pools.subscribe(({ before, after }) => {
      if (offerOf(before) !== offerOf(after)) wake();
    });
    nodes.subscribe(({ before, after }) => {
      if (before?.isReady !== after?.isReady) wake();
    });
    // Not waited for, as there may never be any.
    contents.subscribe(wake);
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { caches, rooms } = this.#options;
    const image = caches.images.cache.get(key);
    // From here on the cache counts it, or nobody needs to.
    rooms.release(key);
    if (!image || isBeingDeleted(image)) return 'done';
    if (image.spec.nodeName !== undefined) {
      if (this.#isForNobody(image, image.spec.nodeName))
        await this.#tell(image, noPoolsOn(image.spec.nodeName), signal);
      return 'done';
    }
    const choice = this.#choose(image);
    if ('nodeName' in choice) {
      await this.#place(image, choice, signal);
      return 'done';
    }
    await this.#tell(image, choice, signal);
    return { againAfterMs: retryMs };
  };

  /** Whether no node plugin speaks of it, and nobody else says why: of a node that is gone another reconciler does. */
  #isForNobody({ status }: DiskImage, nodeName: string): boolean {
    const { nodes, pools } = this.#options.caches;
    const isSpokenOf = (findCondition(status.conditions, 'Ready')?.reason ?? 'WaitingForNode') !== 'WaitingForNode';
    return !isSpokenOf && nodes.cache.has(nodeName) && pools.cache.byIndex(indexes.node, nodeName).length === 0;
  }

  #choose(image: DiskImage): Choice {
    const { caches, rooms, systemNamespace } = this.#options;
    const source = sourceNodeOf(image, caches, systemNamespace);
    if (source.kind === 'unknown') return source;
    const choice = chooseNode(rooms.candidates(image.spec.pool), wishOf(image, source));
    if ('reason' in choice) return choice;
    const { nodeName } = choice;
    return source.kind === 'node'
      ? { nodeName, reason: 'SourceNode', message: `Node ${nodeName} has the source.` }
      : { nodeName, reason: 'NodeChosen', message: `Node ${nodeName} has room for it in its pool ${image.spec.pool}.` };
  }

  async #place(image: DiskImage, choice: Extract<Choice, { nodeName: string }>, signal: AbortSignal): Promise<void> {
    const { rooms, client, checkpoint, events } = this.#options;
    const { nodeName, message } = choice;
    const { pool, size = 0 } = image.spec;
    const key = keyOf(image.metadata);
    rooms.reserve(key, { poolName: pool, nodeName, sizeBytes: size, isThick: isThickWhenNew(image.spec) });
    try {
      // The choice is told first: the node takes over as soon as it is named, and tells its own story.
      const told = await this.#tell(image, choice, signal);
      checkpoint('place-image/choice-told');
      await patchObject(client, told, { spec: { nodeName } }, { signal });
      checkpoint('place-image/node-named');
    } catch (error) {
      rooms.release(key);
      throw error;
    }
    events.record(image, { type: 'Normal', reason: 'Placed', action: 'Place', note: message });
  }

  /** @returns the object as it is now */
  async #tell(image: DiskImage, choice: Choice, signal: AbortSignal): Promise<DiskImage> {
    const { client, clock, events } = this.#options;
    const { reason, message } = choice;
    const isPlaced = 'nodeName' in choice;
    const report = new ConditionReport<'Placed' | 'Ready'>(isPlaced ? ['Placed'] : ['Placed', 'Ready']);
    report.report('Placed', isPlaced ? 'True' : 'False', reason, message);
    // Nobody else speaks of it before it has a node.
    if (!isPlaced) report.report('Ready', 'False', 'WaitingForNode', message);
    const { conditions } = image.status;
    if (!isPlaced && findCondition(conditions, 'Placed')?.reason !== reason) {
      events.record(image, { type: 'Warning', reason, action: 'Place', note: message });
    }
    const renewed = report.conditions(conditions, image.metadata.generation, clock.now());
    return writeStatus(client, image, { conditions: renewed }, { signal });
  }
}

function noPoolsOn(nodeName: string): Choice {
  const message = `Node ${nodeName} has no pools, as no node plugin has run there: declare a new DiskImage with another node or without one, or have the plugin run there (node.nodeSelector and node.tolerations of the chart).`;
  return { reason: 'PoolNotFound', message };
}

function unplacedOf(images: readonly DiskImage[]): string[] {
  return images.filter(({ spec }) => spec.nodeName === undefined).map(({ metadata }) => keyOf(metadata));
}

/** What a pool can offer to new disks. */
function offerOf(pool: DiskPool | undefined): string {
  const { availableThin, availableThick } = pool?.status.space ?? {};
  return [findCondition(pool?.status.conditions ?? [], 'Ready')?.status, availableThin, availableThick].join(' ');
}

function wishOf({ spec }: DiskImage, source: SourceNode): PlacementWish {
  // Of an unknown size it is known that it is not nothing.
  const sizeBytes = spec.size ?? 1;
  const allowed = source.kind === 'node' ? [source.nodeName] : null;
  return { sizeBytes, isThick: isThickWhenNew(spec), allowed, preferred: [] };
}
