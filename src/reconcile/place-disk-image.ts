import type { DiskImage } from '../api/objects.ts';
import { patchObject, writeStatus } from '../kube/apply.ts';
import { ConditionReport, findCondition } from '../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../kube/controller.ts';
import type { EventRecorder } from '../kube/events.ts';
import { isBeingDeleted, keyOf } from '../kube/objects.ts';
import type { ResourceClient } from '../kube/resource-client.ts';
import type { Checkpoint } from '../lib/checkpoint.ts';
import type { Clock } from '../lib/clock.ts';
import { anyNamespace, type Caches, indexes } from './caches.ts';
import type { ControllerStep } from './controller-steps.ts';
import { chooseNode, type PlacementWish } from './placement.ts';
import { isThickWhenNew, type PoolRooms } from './pool-rooms.ts';

export interface DiskImagePlacerOptions {
  client: ResourceClient<DiskImage>;
  caches: Caches;
  rooms: PoolRooms;
  events: EventRecorder;
  clock: Clock;
  checkpoint: Checkpoint<ControllerStep>;
}

type Choice =
  | { nodeName: string; reason: 'NodeChosen' | 'SourceNode'; message: string }
  | { reason: 'WaitingForSource' | 'PoolNotFound' | 'NoRoom'; message: string };

/** Chooses the node of DiskImages that were declared without one, or says why there is none. */
export class DiskImagePlacer {
  readonly #options: DiskImagePlacerOptions;

  constructor(options: DiskImagePlacerOptions) {
    this.#options = options;
  }

  /** Has DiskImages reconciled when they, their sources, or the pools that they could be in change. */
  watch(controller: Controller): void {
    const { images, snapshots, pools, nodes } = this.#options.caches;
    const unplaced = (namespace = anyNamespace) =>
      images.cache.byIndex(indexes.unplaced, namespace).map(({ metadata }) => keyOf(metadata));
    controller.watch(images, ({ metadata }) => [keyOf(metadata), ...unplaced(metadata.namespace)]);
    controller.watch(snapshots, ({ metadata }) => unplaced(metadata.namespace));
    controller.watch(pools, () => unplaced());
    controller.watch(nodes, () => unplaced());
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { caches, rooms } = this.#options;
    const image = caches.images.cache.get(key);
    // From here on the cache counts it, or nobody needs to.
    rooms.release(key);
    if (!image || image.spec.nodeName !== undefined || isBeingDeleted(image)) return 'done';
    const choice = this.#choose(image);
    if ('nodeName' in choice) await this.#place(image, choice, signal);
    else await this.#tell(image, choice, signal);
    return 'done';
  };

  #choose(image: DiskImage): Choice {
    const source = this.#findSource(image);
    if (source && 'message' in source) return { reason: 'WaitingForSource', ...source };
    const choice = chooseNode(this.#options.rooms.candidates(image.spec.pool), wishOf(image, source?.nodeName));
    if ('reason' in choice) return choice;
    const { nodeName } = choice;
    return source
      ? { nodeName, reason: 'SourceNode', message: `Node ${nodeName} has the source.` }
      : { nodeName, reason: 'NodeChosen', message: `Node ${nodeName} has room for it in its pool ${image.spec.pool}.` };
  }

  /** The node of the source, or why it is not known; undefined for an image without a source in the cluster. */
  #findSource({ spec: { source }, metadata }: DiskImage): { nodeName: string } | { message: string } | undefined {
    const { images, snapshots } = this.#options.caches;
    const { namespace } = metadata;
    switch (source.type) {
      case 'blank':
        return undefined;
      case 'diskImage':
        return nodeOfSource(
          'DiskImage',
          source.diskImage.name,
          images.cache.get(keyOf({ namespace, ...source.diskImage })),
        );
      case 'diskSnapshot': {
        const key = keyOf({ namespace, ...source.diskSnapshot });
        return nodeOfSource('DiskSnapshot', source.diskSnapshot.name, snapshots.cache.get(key));
      }
    }
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

function nodeOfSource(
  kind: string,
  name: string,
  source: { spec: { nodeName?: string | undefined } } | undefined,
): { nodeName: string } | { message: string } {
  const nodeName = source?.spec.nodeName;
  if (nodeName !== undefined) return { nodeName };
  return {
    message: source
      ? `The source, ${kind} ${name}, has no node yet.`
      : `There is no ${kind} ${name} in the same namespace.`,
  };
}

function wishOf({ spec }: DiskImage, nodeName: string | undefined): PlacementWish {
  // Of an unknown size it is known that it is not nothing.
  const sizeBytes = spec.size ?? 1;
  return {
    sizeBytes,
    isThick: isThickWhenNew(spec),
    allowed: nodeName === undefined ? null : [nodeName],
    preferred: [],
  };
}
