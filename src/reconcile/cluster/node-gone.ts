import { finalizers } from '../../api/names.ts';
import type { DiskImage, DiskPool, DiskSnapshot } from '../../api/objects.ts';
import { writeStatus } from '../../kube/apply.ts';
import { type Condition, ConditionReport, findCondition } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { Node } from '../../kube/kinds/core-kinds.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { hasFinalizer, removeFinalizerIfPresent } from '../../kube/finalizers.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import { type Caches, indexes } from './caches.ts';
import { claimSubject } from '../claim.ts';
import type { ControllerStep } from './controller-steps.ts';
import { wasMade } from '../was-made.ts';

export interface GoneNodesOptions {
  images: ResourceClient<DiskImage>;
  snapshots: ResourceClient<DiskSnapshot>;
  pools: ResourceClient<DiskPool>;
  nodes: ResourceClient<Node>;
  caches: Caches;
  events: EventRecorder;
  /** After which a DiskPool goes that nothing refers to. */
  graceMs: number;
  clock: Clock;
  checkpoint: Checkpoint<ControllerStep>;
}

/** How soon a node is looked at again of which cache and API server say different things. */
const doubtMs = 5000;

/**
 * Says of the objects of a node that is gone for good that they are, and lets those go that are deleted: nobody else
 * can. A node is gone when its Node object is, which an administrator or the cloud removes; a node that is only silent
 * keeps it. What the node holds is not touched: where it comes back, its pools tell of it.
 */
export class GoneNodes {
  readonly #options: GoneNodesOptions;
  /** Since when nodes are seen to be gone, by our clock. */
  readonly #goneSince = new Map<string, number>();

  constructor(options: GoneNodesOptions) {
    this.#options = options;
  }

  /** Has a node reconciled, by its name, when it or anything on it changes. */
  watch(controller: Controller): void {
    const { images, snapshots, pools, nodes } = this.#options.caches;
    const nodeOf = ({ spec }: DiskImage | DiskSnapshot | DiskPool) =>
      spec.nodeName === undefined ? [] : [spec.nodeName];
    controller.watch(nodes, ({ metadata }) => [metadata.name]);
    controller.watch(images, nodeOf);
    controller.watch(snapshots, nodeOf);
    controller.watch(pools, nodeOf);
  }

  readonly reconcile = async (nodeName: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { caches, clock } = this.#options;
    if (caches.nodes.cache.has(nodeName) || (!this.#isUsed(nodeName) && this.#poolsOf(nodeName).length === 0)) {
      this.#goneSince.delete(nodeName);
      return 'done';
    }
    // The cache may lag behind; where the API server cannot be asked, nothing is concluded.
    if (!(await this.#isGone(nodeName, signal))) return { againAfterMs: doubtMs };
    const sinceMs = this.#goneSince.get(nodeName) ?? clock.elapsedMs();
    this.#goneSince.set(nodeName, sinceMs);
    await this.#forgetAll(nodeName, signal);
    return this.#removePools(nodeName, sinceMs, signal);
  };

  async #isGone(nodeName: string, signal: AbortSignal): Promise<boolean> {
    return (await this.#options.nodes.get({ name: nodeName }, { signal })) === undefined;
  }

  /** Goes on where one object fails. @throws its failure at the end */
  async #forgetAll(nodeName: string, signal: AbortSignal): Promise<void> {
    const { images, snapshots } = this.#options.caches;
    const tasks = [
      ...images.cache.byIndex(indexes.node, nodeName).map((image) => () => this.#forgetImage(image, signal)),
      ...snapshots.cache
        .byIndex(indexes.node, nodeName)
        .map((snapshot) => () => this.#forgetSnapshot(snapshot, signal)),
      ...this.#poolsOf(nodeName).map((pool) => () => this.#forgetPool(pool, signal)),
    ];
    const failures: unknown[] = [];
    for (const task of tasks) {
      signal.throwIfAborted();
      await task().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  async #forgetImage(image: DiskImage, signal: AbortSignal): Promise<void> {
    const { images, checkpoint } = this.#options;
    if (isBeingDeleted(image)) {
      if (!hasFinalizer(image, finalizers.disk) || !(await this.#isGone(image.spec.nodeName ?? '', signal))) return;
      this.#tell(image, 'Released', releaseNote(image, 'disk'));
      await removeFinalizerIfPresent(images, image, finalizers.disk, { signal });
      return checkpoint('forget-node/image-released');
    }
    const conditions = this.#conditions(image, ['Ready', 'Healthy']);
    if (!isToldGone(image.status.conditions)) this.#tell(image, 'NodeGone', goneNote(image));
    // Or it would count as in use for ever, and could never be deleted.
    const attached = image.status.attached ? false : undefined;
    await writeStatus(images, image, { conditions, attached }, { signal });
    checkpoint('forget-node/image-told');
  }

  async #forgetSnapshot(snapshot: DiskSnapshot, signal: AbortSignal): Promise<void> {
    const { snapshots, checkpoint } = this.#options;
    if (isBeingDeleted(snapshot)) {
      if (!hasFinalizer(snapshot, finalizers.snapshot) || !(await this.#isGone(snapshot.spec.nodeName ?? '', signal)))
        return;
      this.#tell(snapshot, 'Released', releaseNote(snapshot, 'snapshot'));
      await removeFinalizerIfPresent(snapshots, snapshot, finalizers.snapshot, { signal });
      return checkpoint('forget-node/snapshot-released');
    }
    if (!isToldGone(snapshot.status.conditions)) this.#tell(snapshot, 'NodeGone', goneNote(snapshot));
    await writeStatus(snapshots, snapshot, { conditions: this.#conditions(snapshot, ['Ready']) }, { signal });
    checkpoint('forget-node/snapshot-told');
  }

  async #forgetPool(pool: DiskPool, signal: AbortSignal): Promise<void> {
    const { pools, checkpoint } = this.#options;
    await writeStatus(pools, pool, { conditions: this.#conditions(pool, ['Ready']) }, { signal });
    checkpoint('forget-node/pool-told');
  }

  /** A DiskPool that nothing refers to says nothing any more. */
  async #removePools(nodeName: string, sinceMs: number, signal: AbortSignal): Promise<ReconcileResult> {
    const { pools, graceMs, clock, checkpoint } = this.#options;
    const left = this.#poolsOf(nodeName);
    if (this.#isUsed(nodeName) || left.length === 0) return 'done';
    const remainingMs = sinceMs + graceMs - clock.elapsedMs();
    if (remainingMs > 0) return { againAfterMs: remainingMs };
    if (!(await this.#isGone(nodeName, signal))) return { againAfterMs: doubtMs };
    for (const { metadata } of left) {
      await pools.removeIfPresent({ name: metadata.name }, { uid: metadata.uid, signal });
      checkpoint('forget-node/pool-removed');
    }
    return 'done';
  }

  #isUsed(nodeName: string): boolean {
    const { images, snapshots } = this.#options.caches;
    return [images.cache, snapshots.cache].some((cache) => cache.byIndex(indexes.node, nodeName).length > 0);
  }

  #poolsOf(nodeName: string): DiskPool[] {
    return this.#options.caches.pools.cache.byIndex(indexes.node, nodeName);
  }

  #conditions(object: DiskImage | DiskSnapshot | DiskPool, types: readonly string[]): Condition[] {
    const report = new ConditionReport(types);
    for (const type of types) report.report(type, 'False', 'NodeGone', goneNote(object));
    return report.conditions(object.status.conditions, object.metadata.generation, this.#options.clock.now());
  }

  #tell(object: DiskImage | DiskSnapshot, reason: string, note: string): void {
    const { events } = this.#options;
    const event = { type: 'Warning', reason, action: 'Forget', note } as const;
    events.record(object, event);
    const claim = object.kind === 'DiskImage' && reason === 'NodeGone' ? claimSubject(object) : undefined;
    if (claim) events.record(claim, event);
  }
}

function isToldGone(conditions: readonly Condition[]): boolean {
  return findCondition(conditions, 'Ready')?.reason === 'NodeGone';
}

function goneNote(object: DiskImage | DiskSnapshot | DiskPool): string {
  const { kind, spec } = object;
  const { nodeName } = spec;
  if (kind !== 'DiskPool' && !wasMade(object)) {
    return `There is no node ${nodeName} in the cluster, on which it was to be made: declare it anew for a node that there is, or wait until that one is there.`;
  }
  const hint = kind === 'DiskPool' ? 'it goes when nothing refers to it' : 'it can be deleted';
  return `There is no node ${nodeName} in the cluster, and with it what it held is gone: ${hint}. Where the node comes back with its disks, all is as before.`;
}

function releaseNote({ metadata, spec: { nodeName } }: DiskImage | DiskSnapshot, what: string): string {
  return `${keyOf(metadata)} goes without its ${what} being deleted, as node ${nodeName} is gone. Where the node comes back with its disks, its DiskPool lists it.`;
}
