import { isBeingDeleted, keyOf, type ObjectRef } from '../../kube/objects.ts';
import type { ObjectCache } from '../../kube/cache/object-cache.ts';
import type { ObjectWatch } from '../../kube/cache/object-watch.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import { isFinal, reportedFailure } from './verdicts.ts';

export interface Removal<T extends DiskImage | DiskSnapshot> {
  resources: ResourceClient<T>;
  cache: ObjectCache<T>;
  /** Made before the object was read. */
  watch: ObjectWatch<T>;
  ref: ObjectRef;
  signal: AbortSignal;
}

/**
 * Deletes the object, and waits until its node has deleted what it stands for and lets it go.
 *
 * @returns undefined when it is gone; the object as it is, where the time is over before
 * @throws what the node reports that does not go away by itself, such as LaminaError `disk-in-use`
 */
export async function removeObject<T extends DiskImage | DiskSnapshot>(
  { resources, cache, watch, ref, signal }: Removal<T>,
  known: T,
): Promise<T | undefined> {
  const { uid } = known.metadata;
  if (!isBeingDeleted(known)) await resources.removeIfPresent(ref, { uid, signal });
  const left = await resources.get(ref, { signal });
  if (left && left.metadata.uid === uid) {
    const verdict = await watch.until<'gone' | Error>(left, judge, signal);
    if (verdict instanceof Error) throw verdict;
    return verdict === 'gone' ? undefined : watch.stateOf(left);
  }
  // The cache may never have shown it; where it does, who asks next is not to find it there.
  const isCached = () => cache.has(keyOf(ref)) && cache.get(keyOf(ref))?.metadata.uid === uid;
  await watch.until(known, () => (isCached() ? undefined : true), signal);
  return undefined;
}

/**
 * Removes what cannot be made, so that its failure can be answered.
 *
 * @param what what to say where it is not gone in time, as a final answer would then leave it behind
 * @throws LaminaError `busy`
 */
export async function withdrawObject<T extends DiskImage | DiskSnapshot>(
  removal: Removal<T>,
  known: T,
  what: string,
): Promise<void> {
  const left = await removeObject(removal, known).catch((error: unknown) => {
    throw new LaminaError('busy', `${what}: ${messageOf(error)}`, { cause: error });
  });
  if (left) throw new LaminaError('busy', what);
}

function judge(object: DiskImage | DiskSnapshot | undefined): 'gone' | Error | undefined {
  if (!object) return 'gone';
  const failure = reportedFailure(object, 'Ready');
  return failure && isFinal(failure) ? failure : undefined;
}
