import { objectOfRecord, type Place } from '../../api/identity.ts';
import type { DiskImage, DiskPool, DiskSnapshot } from '../../api/objects.ts';
import { isAlreadyExists } from '../../kube/client/api-error.ts';
import { isTrue, timestampOf } from '../../kube/conditions.ts';
import type { Controller, ReconcileResult } from '../../kube/controller.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { Reflector } from '../../kube/cache/reflector.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { type ElectedCaches, indexes } from './caches.ts';
import type { ControllerStep } from './controller-steps.ts';
import {
  type AdoptedImage,
  type AdoptedSnapshot,
  imageOfOrphan,
  type Orphan,
  type OrphanContext,
  type Problem,
  snapshotOfOrphan,
} from './orphan-objects.ts';

export interface OrphanAdopterOptions {
  images: ResourceClient<DiskImage>;
  snapshots: ResourceClient<DiskSnapshot>;
  pools: ResourceClient<DiskPool>;
  caches: ElectedCaches;
  systemNamespace: string;
  events: EventRecorder;
  clock: Clock;
  checkpoint: Checkpoint<ControllerStep>;
}

/** What could not be declared is tried again after this: what stands in the way may have gone. */
const retryMs = 5 * 60_000;

/** Declares objects again for what pools hold without one, as after the loss of all custom resources. */
export class OrphanAdopter {
  readonly #options: OrphanAdopterOptions;
  /** What was declared already of what a pool lists: its list may be older than the end of that object. */
  readonly #adopted = new Set<string>();
  /** What was told last of a pool. */
  readonly #complaints = new Map<string, string>();

  constructor(options: OrphanAdopterOptions) {
    this.#options = options;
  }

  /** Has DiskPools reconciled when they change, or a namespace comes that an object may be in. */
  watch(controller: Controller): void {
    const { images, snapshots, pools, namespaces } = this.#options.caches;
    controller.watch(pools, ({ metadata }) => [metadata.name]);
    controller.watch(namespaces, () =>
      pools.cache
        .list()
        .filter(hasOrphans)
        .map(({ metadata }) => metadata.name),
    );
    // Looked into, though no change of theirs has to be acted on.
    controller.watch(images, () => []);
    controller.watch(snapshots, () => []);
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { caches, pools } = this.#options;
    const cached = caches.pools.cache.get(key);
    if (!cached || !hasOrphans(cached)) {
      this.#complaints.delete(key);
      return 'done';
    }
    // As new as can be: what is listed may have been deleted meanwhile.
    const pool = await pools.get({ name: key }, { signal });
    if (!pool || !isTrue(pool.status.conditions, 'Ready')) return 'done';
    const problems = await this.#adoptAll(pool, signal);
    this.#complain(pool, problems);
    return problems.length > 0 ? { againAfterMs: retryMs } : 'done';
  };

  /** @returns what cannot be declared, and why */
  async #adoptAll(pool: DiskPool, signal: AbortSignal): Promise<string[]> {
    const { orphans } = pool.status;
    const context = this.#context(pool);
    const problems: string[] = [];
    const adopted: string[] = [];
    // Disks first, so that snapshots can name them.
    for (const kind of ['disk', 'snapshot', 'image'] as const) {
      for (const orphan of orphans.filter((one) => one.kind === kind)) {
        const outcome = await this.#adopt(orphan, context, signal);
        if (typeof outcome === 'object') problems.push(`${kind} ${orphan.name}: ${outcome.problem}`);
        else if (outcome !== '') adopted.push(outcome);
      }
    }
    if (adopted.length > 0) {
      const note = `Declared again, as the pool holds them: ${adopted.join(', ')}.`;
      this.#options.events.record(pool, { type: 'Normal', reason: 'Adopted', action: 'Adopt', note });
    }
    return problems;
  }

  /** @returns the object that was declared; an empty text where there was nothing to do */
  async #adopt(orphan: Orphan, context: OrphanContext, signal: AbortSignal): Promise<string | Problem> {
    const { images, snapshots, caches, checkpoint } = this.#options;
    const listing = [context.pool.status.poolId, orphan.kind, orphan.id, orphan.foundAt].join(' ');
    if (this.#adopted.has(listing)) return '';
    const isImage = orphan.kind !== 'snapshot';
    const outcome = isImage
      ? await this.#declare(imageOfOrphan(orphan, context), { resources: images, reflector: caches.images }, signal)
      : await this.#declare(
          snapshotOfOrphan(orphan, context),
          { resources: snapshots, reflector: caches.snapshots },
          signal,
        );
    if (typeof outcome === 'object') return outcome;
    this.#adopted.add(listing);
    if (outcome !== '') checkpoint(isImage ? 'adopt-orphans/disk-declared' : 'adopt-orphans/snapshot-declared');
    return outcome;
  }

  async #declare<T extends DiskImage | DiskSnapshot>(
    manifest: AdoptedImage | AdoptedSnapshot | Problem,
    { resources, reflector }: { resources: ResourceClient<T>; reflector: Reflector<T> },
    signal: AbortSignal,
  ): Promise<string | Problem> {
    if ('problem' in manifest) return manifest;
    const key = keyOf(manifest.metadata);
    const name = `${resources.type.kind} ${key}`;
    const obstacle = this.#namespaceProblem(manifest.metadata.namespace);
    if (obstacle) return obstacle;
    const known = reflector.cache.has(key) ? reflector.cache.get(key) : undefined;
    if (known) return otherOf(known, manifest);
    try {
      await resources.create(manifest, { signal });
      return name;
    } catch (error) {
      if (isAlreadyExists(error)) return otherOf(await resources.get(manifest.metadata, { signal }), manifest);
      // The others are tried nevertheless.
      if (isLaminaError(error, 'api-refused')) return { problem: error.message };
      throw error;
    }
  }

  #namespaceProblem(name: string): Problem | undefined {
    const { cache } = this.#options.caches.namespaces;
    const namespace = cache.get(name);
    if (namespace && !isBeingDeleted(namespace)) return undefined;
    return { problem: `there is no namespace ${name}${namespace ? ' any more' : ''}` };
  }

  #context(pool: DiskPool): OrphanContext {
    const { caches, systemNamespace, clock } = this.#options;
    const orphaned = (kind: Orphan['kind'], id: string): Place | undefined => {
      const orphan = pool.status.orphans.find((one) => one.kind === kind && one.id === id);
      return orphan && objectOfRecord(orphan.name, systemNamespace);
    };
    return {
      systemNamespace,
      pool,
      adoptedAt: timestampOf(clock.now()),
      imageOf: (id) =>
        placeOf(caches.images.cache.byIndex(indexes.id, id)) ?? orphaned('disk', id) ?? orphaned('image', id),
      snapshotOf: (id) => placeOf(caches.snapshots.cache.byIndex(indexes.id, id)) ?? orphaned('snapshot', id),
    };
  }

  /** Says what is kept without an object, when that changes. */
  #complain(pool: DiskPool, problems: readonly string[]): void {
    const { name } = pool.metadata;
    const complaint = problems.join('; ');
    if (complaint === (this.#complaints.get(name) ?? '')) return;
    this.#complaints.set(name, complaint);
    if (complaint === '') return;
    const note = `Kept in the pool, but without an object (status.orphans lists them): ${complaint}.`;
    this.#options.events.record(pool, { type: 'Warning', reason: 'OrphansKept', action: 'Adopt', note });
  }
}

function hasOrphans({ status }: DiskPool): boolean {
  return status.orphans.length > 0;
}

function placeOf([object]: readonly (DiskImage | DiskSnapshot)[]): Place | undefined {
  return object && { namespace: object.metadata.namespace ?? '', name: object.metadata.name };
}

/** An object that is there already is the one, if it is of the same node: the pool's list is older. */
function otherOf(other: DiskImage | DiskSnapshot | undefined, { spec }: AdoptedImage | AdoptedSnapshot): '' | Problem {
  if (!other || other.spec.nodeName === spec.nodeName) return '';
  const where = other.spec.nodeName === undefined ? 'has no node yet' : `is on node ${other.spec.nodeName}`;
  return { problem: `there is a ${other.kind} ${keyOf(other.metadata)}, which ${where}` };
}
