import { failureReason } from '../../api/conditions.ts';
import type { DiskImage } from '../../api/objects.ts';
import { isAlreadyExists } from '../../kube/client/api-error.ts';
import { writeStatus } from '../../kube/apply.ts';
import { ConditionReport, findCondition, type Finding, isTrue } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { Node } from '../../kube/kinds/core-kinds.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { type Caches, indexes } from './caches.ts';
import type { ControllerStep } from './controller-steps.ts';
import { copyNameOf, copyOf, isCopyOf, originalOf } from './copy-object.ts';
import { type CopyState, stateOfCopy } from './copy-state.ts';
import { type CopyTold, findingOf, listCopies } from './copies-report.ts';
import { asksForCopies, wantedCopies, type WantedCopy } from './copies-wanted.ts';
import type { PoolRooms } from './pool-rooms.ts';

export interface ImageCopiesOptions {
  images: ResourceClient<DiskImage>;
  nodes: ResourceClient<Node>;
  caches: Pick<Caches, 'images' | 'nodes' | 'pools'>;
  rooms: PoolRooms;
  events: EventRecorder;
  clock: Clock;
  checkpoint: Checkpoint<ControllerStep>;
}

/**
 * As many copies of an image are made at once. Those that are ready give it to the next ones, so that many nodes are
 * served sooner than if all of them asked the first.
 */
const maxUnderWay = 8;
/** What the API server has refused is tried again after this. */
const retryMs = 60_000;
/** How soon a node is looked at again of which cache and API server say different things. */
const doubtMs = 5000;
/** Of the garbage collector: what the object owns is to stay when it goes. */
const orphanFinalizer = 'orphan';

/**
 * Has nodes get copies of sealed DiskImages ahead of need: each is a DiskImage of its own, which belongs to the original
 * and starts from it, so that its node makes, keeps and removes it as it does others. Says in the original how they are.
 */
export class ImageCopies {
  readonly #options: ImageCopiesOptions;

  constructor(options: ImageCopiesOptions) {
    this.#options = options;
  }

  /** Has sealed DiskImages reconciled when they, their copies, or the nodes and pools that could have one change. */
  watch(controller: Controller): void {
    const { images, nodes, pools } = this.#options.caches;
    controller.watch(images, (image) => [
      ...(image.spec.sealed ? [keyOf(image.metadata)] : []),
      ...originalOf(image).map(keyOf),
    ]);
    // These change all the time, in what does not matter here.
    controller.watch(nodes, () => []);
    controller.watch(pools, () => []);
    const wake = () => {
      for (const { metadata } of images.cache.byIndex(indexes.copied, '')) controller.enqueue(keyOf(metadata));
    };
    nodes.subscribe(({ before, after }) => {
      if (aspectOf(before) !== aspectOf(after)) wake();
    });
    pools.subscribe(({ before, after }) => {
      const [earlier, later] = [before, after].map((pool) => pool && isTrue(pool.status.conditions, 'Ready'));
      if (earlier !== later) wake();
    });
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const image = this.#options.caches.images.cache.get(key);
    if (!image?.spec.sealed) return 'done';
    const copies = this.#copiesOf(image);
    if (isBeingDeleted(image)) {
      if (!image.metadata.finalizers.includes(orphanFinalizer)) await this.#remove(copies, signal);
      return 'done';
    }
    if (!asksForCopies(image)) {
      await this.#remove(copies, signal);
      await this.#tellNothing(image, signal);
      return 'done';
    }
    const [original] = originalOf(image);
    if (original) {
      const message = `This is itself a copy, of ${keyOf(original)}: name the nodes there.`;
      await this.#tell(image, [], { status: 'False', reason: 'IsCopy', message }, signal);
      return 'done';
    }
    return this.#bringAbout(image, copies, signal);
  };

  async #bringAbout(image: DiskImage, copies: readonly DiskImage[], signal: AbortSignal): Promise<ReconcileResult> {
    const { caches } = this.#options;
    const { pool } = image.spec;
    const has = (nodeName: string) => copies.some(({ spec }) => spec.nodeName === nodeName);
    const wanted = wantedCopies(image, {
      nodes: caches.nodes.cache.keys().flatMap((name) => caches.nodes.cache.get(name) ?? []),
      hasPool: (nodeName) => has(nodeName) || this.#options.rooms.candidate(pool, nodeName) !== undefined,
    });
    const isLeft = await this.#removeUnwanted(wanted, copies, signal);
    const hasContent = [image, ...copies].some(({ status }) => isTrue(status.conditions, 'Ready'));
    const told = await this.#makeLacking(image, this.#look(image, wanted, hasContent), signal);
    await this.#tell(image, told, findingOf(told, hasContent), signal);
    if (isLeft) return { againAfterMs: doubtMs };
    return told.some(({ state }) => state.kind === 'failed') ? { againAfterMs: retryMs } : 'done';
  }

  #copiesOf(image: DiskImage): DiskImage[] {
    const { cache } = this.#options.caches.images;
    return cache.byIndex(indexes.original, image.metadata.uid).filter((copy) => isCopyOf(copy, image));
  }

  /** How the wanted copies are, as far as there is anything to be told before they are declared. */
  #look(image: DiskImage, wanted: readonly WantedCopy[], hasContent: boolean): Looked[] {
    const { cache } = this.#options.caches.images;
    const { namespace } = image.metadata;
    return wanted.map(({ nodeName, obstacle }) => {
      if (obstacle) return { nodeName, state: { kind: 'failed', ...obstacle } };
      const found = cache.get(keyOf({ namespace, name: copyNameOf(image, nodeName) }));
      if (found) return this.#told(image, nodeName, found);
      if (hasContent) return { nodeName, state: null };
      return { nodeName, state: { kind: 'waiting', message: 'It is made when the image is ready.' } };
    });
  }

  #told(image: DiskImage, nodeName: string, found: DiskImage): CopyTold {
    if (!isCopyOf(found, image)) return { nodeName, state: nameTaken(found) };
    const candidate = this.#options.rooms.candidate(image.spec.pool, nodeName);
    const obstacle = candidate ? candidate.obstacle : 'it has no such pool any more';
    return { nodeName, state: stateOfCopy(found, obstacle), allocatedBytes: found.status.allocated };
  }

  /** Declares as many of those that lack as may be under way. @returns how all of them are now */
  async #makeLacking(image: DiskImage, looked: readonly Looked[], signal: AbortSignal): Promise<CopyTold[]> {
    let room = maxUnderWay - looked.filter(({ state }) => state?.kind === 'working').length;
    const told: CopyTold[] = [];
    for (const { nodeName, state, ...more } of looked) {
      if (state) told.push({ nodeName, state, ...more });
      else if (room-- > 0) told.push(await this.#declare(image, nodeName, signal));
      else told.push({ nodeName, state: { kind: 'waiting', message: 'Other nodes get theirs first.' } });
    }
    return told;
  }

  async #declare(image: DiskImage, nodeName: string, signal: AbortSignal): Promise<CopyTold> {
    const { images, checkpoint, events } = this.#options;
    const wanted = copyOf(image, nodeName);
    try {
      const copy = await images.create(wanted, { signal });
      checkpoint('copy-image/copy-declared');
      const note = `Node ${nodeName} is to get a copy, the DiskImage ${copy.metadata.name}.`;
      events.record(image, { type: 'Normal', reason: 'Copying', action: 'Copy', note });
      return this.#told(image, nodeName, copy);
    } catch (error) {
      if (isAlreadyExists(error)) {
        const other = await images.get(wanted.metadata, { signal });
        const gone: CopyState = { kind: 'waiting', message: 'An earlier copy has just been deleted.' };
        return other ? this.#told(image, nodeName, other) : { nodeName, state: gone };
      }
      // The others are tried nevertheless.
      if (!isLaminaError(error, 'api-refused')) throw error;
      return { nodeName, state: { kind: 'failed', reason: failureReason(error.code), message: error.message } };
    }
  }

  /**
   * Removes copies that are not wanted any more, and those that are lost, so that they are made again.
   *
   * @returns whether some are left, of nodes that may be there after all
   */
  async #removeUnwanted(
    wanted: readonly WantedCopy[],
    copies: readonly DiskImage[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const { caches, nodes } = this.#options;
    const able = new Set(wanted.flatMap(({ nodeName, obstacle }) => (obstacle ? [] : [nodeName])));
    let isLeft = false;
    for (const copy of copies) {
      const { nodeName: name = '' } = copy.spec;
      if (able.has(name) && stateOfCopy(copy, null).kind !== 'lost') continue;
      // The cache may lag behind, and what is removed has to be fetched again.
      const isDoubtful = !caches.nodes.cache.has(name) && (await nodes.get({ name }, { signal })) !== undefined;
      if (isDoubtful) isLeft = true;
      else await this.#remove([copy], signal);
    }
    return isLeft;
  }

  async #remove(copies: readonly DiskImage[], signal: AbortSignal): Promise<void> {
    const { images, checkpoint } = this.#options;
    for (const copy of copies) {
      if (isBeingDeleted(copy)) continue;
      await images.removeIfPresent(copy.metadata, { uid: copy.metadata.uid, signal });
      checkpoint('copy-image/copy-removed');
    }
  }

  async #tell(image: DiskImage, told: readonly CopyTold[], finding: Finding, signal: AbortSignal): Promise<void> {
    const { images, clock, checkpoint, events } = this.#options;
    const { status, reason, message } = finding;
    const report = new ConditionReport<'Copied'>(['Copied']);
    report.report('Copied', status, reason, message);
    const conditions = report.conditions(image.status.conditions, image.metadata.generation, clock.now());
    const earlier = findCondition(image.status.conditions, 'Copied')?.reason;
    if (earlier !== reason && (status === 'True' || !isQuiet(reason))) {
      const type = status === 'True' ? 'Normal' : 'Warning';
      events.record(image, { type, reason, action: 'Copy', note: message });
    }
    await writeStatus(images, image, { conditions, copies: listCopies(told) }, { signal });
    checkpoint('copy-image/status-written');
  }

  /** Where no copies are asked for, nothing is said of them. */
  async #tellNothing(image: DiskImage, signal: AbortSignal): Promise<void> {
    const { conditions, copies } = image.status;
    if (copies.length === 0 && !findCondition(conditions, 'Copied')) return;
    const others = conditions.filter(({ type }) => type !== 'Copied');
    await writeStatus(this.#options.images, image, { conditions: others, copies: null }, { signal });
  }
}

/** A node that is to have a copy; without a state its copy is to be declared. */
type Looked = Omit<CopyTold, 'state'> & { state: CopyState | null };

function nameTaken({ metadata }: DiskImage): CopyState {
  const message = `The copy would be called ${metadata.name}, and there is another DiskImage of that name: delete that one.`;
  return { kind: 'failed', reason: failureReason('name-taken'), message };
}

/** As long as it is so, all goes as it should. */
function isQuiet(reason: string): boolean {
  return reason === 'Copying' || reason === 'WaitingForImage';
}

/** What decides of a node whether it is to have copies. */
function aspectOf(node: Node | undefined): string {
  return node ? JSON.stringify([node.isReady, isBeingDeleted(node), node.metadata.labels]) : '';
}
