import { annotations } from '../../api/names.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import { patchObject } from '../../kube/apply.ts';
import type { ReconcileResult } from '../../kube/controller.ts';
import type { EventRecorder } from '../../kube/events/events.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ObjectCache } from '../../kube/cache/object-cache.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Claimant } from './claimants.ts';
import type { ControllerStep } from './controller-steps.ts';

export interface UnclaimedSweeperOptions<T extends DiskImage | DiskSnapshot> {
  resources: ResourceClient<T>;
  cache: ObjectCache<T>;
  systemNamespace: string;
  /** Whether all that could refer to such objects is known. */
  isInformed: () => boolean;
  /** Who needs the object, as far as the caches show. */
  claimantOf: (object: T) => Claimant;
  /** Asks the API server whether nobody needs it. @throws where it cannot say */
  isUnclaimed: (object: T, signal: AbortSignal) => Promise<boolean>;
  /** For how long nobody needs an object before it is deleted. */
  graceMs: number;
  events: EventRecorder;
  clock: Clock;
  checkpoint: Checkpoint<ControllerStep>;
}

/** When to look again whether the caches are complete. */
const uninformedMs = 60_000;

/**
 * Deletes what CSI asked for and nobody came back for, as where a claim was deleted while its volume was made. To
 * delete anything else is what must not happen, so in every doubt it is left alone:
 *
 * - What has been used once is never deleted, whoever refers to it now: a PersistentVolume with the policy Retain is
 *   deleted to keep the data. So the first user is written down on the object.
 * - What was adopted is never deleted: what refers to it may still be restored.
 * - Nobody must have needed it for the whole grace time, by our own clock, with caches that are complete.
 * - In the end the API server is asked once more, and only the object as it was seen then is deleted.
 */
export class UnclaimedSweeper<T extends DiskImage | DiskSnapshot> {
  readonly #options: UnclaimedSweeperOptions<T>;
  /** What nobody needs, by its key: which object it is, since when, and whether it was told that it is kept. */
  readonly #unclaimed = new Map<string, { uid: string; sinceMs: number; isTold: boolean }>();

  constructor(options: UnclaimedSweeperOptions<T>) {
    this.#options = options;
  }

  readonly reconcile = async (key: string, signal: AbortSignal): Promise<ReconcileResult> => {
    const { cache, isInformed, claimantOf } = this.#options;
    const object = cache.get(key);
    if (!object || !this.#isSwept(object)) return this.#forget(key);
    if (!isInformed()) return { againAfterMs: uninformedMs };
    const claimant = claimantOf(object);
    if (claimant.kind === 'user') await this.#noteUser(object, claimant.name, signal);
    if (claimant.kind === 'user' || claimant.kind === 'asker') return this.#forget(key);
    const remainingMs = this.#remainingMs(key, object);
    if (remainingMs > 0) return { againAfterMs: remainingMs };
    const obstacle = claimant.kind === 'unknown' ? claimant.why : whyKept(object);
    if (obstacle === undefined) return this.#sweep(object, signal);
    this.#tellKept(key, object, obstacle);
    return 'done';
  };

  /** Only what CSI asked for is swept. */
  #isSwept(object: T): boolean {
    const { namespace, annotations: given } = object.metadata;
    const isOfCsi = namespace === this.#options.systemNamespace && given[annotations.csiName] !== undefined;
    return isOfCsi && !isBeingDeleted(object);
  }

  async #noteUser(object: T, name: string, signal: AbortSignal): Promise<void> {
    if (whyKept(object) !== undefined) return;
    const patch = { metadata: { annotations: { [annotations.claimedBy]: name } } };
    await patchObject(this.#options.resources, object, patch, { signal });
    this.#options.checkpoint('sweep-unclaimed/claim-noted');
  }

  async #sweep(object: T, signal: AbortSignal): Promise<'done'> {
    const { resources, isUnclaimed, events, graceMs, checkpoint } = this.#options;
    const { namespace, name, uid } = object.metadata;
    const live = await resources.get({ namespace, name }, { signal });
    const isSame = live && live.metadata.uid === uid && this.#isSwept(live) && whyKept(live) === undefined;
    // Whatever the API server says otherwise, the caches will show in a moment.
    if (!isSame || !(await isUnclaimed(live, signal))) return this.#forget(keyOf(object.metadata));
    const note = `Nothing has referred to it for ${Math.round(graceMs / 1000)} s, and nothing ever used it: it is deleted.`;
    events.record(live, { type: 'Warning', reason: 'Swept', action: 'Sweep', note });
    // If anything has changed since it was read, this is refused.
    const { resourceVersion } = live.metadata;
    await resources.removeIfPresent({ namespace, name }, { uid, resourceVersion, signal });
    checkpoint('sweep-unclaimed/object-deleted');
    return 'done';
  }

  #tellKept(key: string, object: T, why: string): void {
    const unclaimed = this.#unclaimed.get(key);
    if (!unclaimed || unclaimed.isTold) return;
    unclaimed.isTold = true;
    const note = `Nothing refers to it any more. It is kept, as ${why}; delete the ${object.kind} ${key} when its data is not needed.`;
    this.#options.events.record(object, { type: 'Warning', reason: 'Unclaimed', action: 'Sweep', note });
  }

  /** Of the grace time, which begins when this is asked first. */
  #remainingMs(key: string, { metadata: { uid } }: T): number {
    const { clock, graceMs } = this.#options;
    const nowMs = clock.elapsedMs();
    const known = this.#unclaimed.get(key);
    if (known?.uid === uid) return known.sinceMs + graceMs - nowMs;
    this.#unclaimed.set(key, { uid, sinceMs: nowMs, isTold: false });
    return graceMs;
  }

  #forget(key: string): 'done' {
    this.#unclaimed.delete(key);
    return 'done';
  }
}

/** Why an object stays, whoever refers to it; undefined where nothing says so. */
function whyKept({ metadata: { annotations: given } }: DiskImage | DiskSnapshot): string | undefined {
  if (given[annotations.adopted] !== undefined) return 'it was declared again for what the pool held';
  const user = given[annotations.claimedBy];
  return user === undefined ? undefined : `${user} has used it`;
}
