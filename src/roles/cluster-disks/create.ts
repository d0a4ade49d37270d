import type { CreateDiskRequest, DiskInfo, Placement } from '../../csi/controller/disk-service.ts';
import { isAlreadyExists } from '../../kube/client/api-error.ts';
import { findCondition } from '../../kube/conditions.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ObjectWatch } from '../../kube/cache/object-watch.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { DiskImage } from '../../api/objects.ts';
import { chooseSize } from '../../store/create-disk.ts';
import { diskIdOf } from '../../store/ids.ts';
import { takesSpaceAtOnce } from '../../store/space.ts';
import { type ClusterDiskContext, objectNameOf, operate, refIn, watchObject } from './context.ts';
import { diskInfo, isMade } from './info.ts';
import { assertPool, narrowToPod, placeVolume, readSource } from './placing.ts';
import { withdrawObject } from './removal.ts';
import { isFinal, isNodeGone, isReady, reportedFailure, silenceOf } from './verdicts.ts';
import { assertSameWish, diskImageOf } from './wish.ts';

/** One call of createDisk. */
interface Creation {
  context: ClusterDiskContext;
  request: CreateDiskRequest;
  placement: Placement;
  ref: { namespace: string; name: string };
  watch: ObjectWatch<DiskImage>;
  signal: AbortSignal;
}

/**
 * Declares the DiskImage of a volume, unless it is there, and waits until its node has made the disk. A failure that
 * trying again does not change is answered when the object is gone again, so that nothing stays behind.
 *
 * @throws as DiskService's `createDisk`
 */
export async function createDisk(
  context: ClusterDiskContext,
  request: CreateDiskRequest,
  placement: Placement,
): Promise<DiskInfo> {
  const ref = refIn(context, objectNameOf(request.name, diskIdOf));
  return operate(context, `making the volume ${ref.name}`, async (signal) => {
    using watch = watchObject(context.caches.images, ref);
    const existing = await context.images.get(ref, { signal });
    const narrowed = await narrowToPod(context, placement, request.source, signal);
    const creation = { context, request, placement: narrowed, ref, watch, signal };
    try {
      const image = existing ? await usable(creation, existing) : await declare(creation);
      return await waitUntilMade(creation, image);
    } finally {
      context.rooms.release(keyOf(ref));
    }
  });
}

/**
 * What an earlier call has declared.
 *
 * @throws LaminaError `busy` where it is being deleted, `name-taken` where it is something else, `topology-unsatisfiable`
 *   where it is on a node that is not allowed any more; if nobody was told of it, it is deleted before
 */
async function usable(creation: Creation, image: DiskImage): Promise<DiskImage> {
  const { request, placement } = creation;
  const { nodeName, pool } = image.spec;
  if (isBeingDeleted(image)) {
    throw new LaminaError('busy', `an earlier volume ${image.metadata.name} is still being deleted; try again`);
  }
  assertSameWish(image, request, placement);
  await assertSourceRemains(creation, image);
  const { allowed } = placement.nodes;
  if (nodeName === undefined || allowed === null || allowed.includes(nodeName)) return image;
  const places = allowed.join(', ') || 'places that are no nodes';
  const problem = `the volume is in the pool '${pool}' of node ${nodeName}, but allowed are ${places}`;
  if (!isMade(image)) await withdraw(creation, image, problem);
  throw new LaminaError('topology-unsatisfiable', problem);
}

/**
 * What is waited for may have been deleted meanwhile, and would be waited for for ever.
 *
 * @throws LaminaError `disk-not-found`, `snapshot-not-found`, `image-not-found`, when the volume is cleared away
 */
async function assertSourceRemains(creation: Creation, image: DiskImage): Promise<void> {
  if (findCondition(image.status.conditions, 'Ready')?.reason !== 'WaitingForSource') return;
  const { context, request, placement, signal } = creation;
  try {
    await readSource(context, request.source, placement, signal);
  } catch (error) {
    if (error instanceof LaminaError && error.kind === 'not-found') await withdraw(creation, image, error.message);
    throw error;
  }
}

async function declare(creation: Creation): Promise<DiskImage> {
  const { context, request, placement, ref, signal } = creation;
  assertPool(context.rooms, placement.pool);
  const source = await readSource(context, request.source, placement, signal);
  const sizeBytes = chooseSize(request.size, source?.sizeBytes ?? 0);
  const isThick = source === null && takesSpaceAtOnce(request.options.preallocation);
  // From the choice to the reservation nothing is awaited, so that no other call chooses by the same room.
  const nodeName = placeVolume(context, placement, { sizeBytes, isThick }, source);
  context.rooms.reserve(keyOf(ref), { poolName: placement.pool, nodeName, sizeBytes, isThick });
  try {
    const wish = diskImageOf(ref, request, placement, { sizeBytes, nodeName });
    const image = await context.images.create(wish, { signal });
    context.checkpoint('create-volume/image-declared');
    return image;
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    // Another controller was asked for the same, or the answer to an earlier request of ours was lost.
    const other = await context.images.get(ref, { signal });
    if (other) return usable(creation, other);
    throw new LaminaError('busy', `another volume ${ref.name} has just been deleted; try again`, { cause: error });
  }
}

async function waitUntilMade(creation: Creation, image: DiskImage): Promise<DiskInfo> {
  const { context, watch, ref, signal } = creation;
  // Of the node and of the image, either may be known to be gone first.
  watch.dependOn(context.caches.nodes, image.spec.nodeName ?? '');
  const verdict = await watch.until(image, (latest) => judge(context, latest), signal);
  if (verdict === undefined) throw unfinished(context, watch.stateOf(image) ?? image);
  if ('made' in verdict) {
    context.checkpoint('create-volume/image-made');
    return diskInfo(verdict.made);
  }
  if ('failure' in verdict) {
    await withdraw(creation, image, verdict.failure.message);
    throw verdict.failure;
  }
  throw new LaminaError('busy', `somebody has deleted the volume ${ref.name} while it was made; try again`);
}

type Verdict = { made: DiskImage } | { failure: Error } | { deleted: true };

function judge(context: ClusterDiskContext, image: DiskImage | undefined): Verdict | undefined {
  if (!image || isBeingDeleted(image)) return { deleted: true };
  if (isReady(image)) return { made: image };
  if (isNodeGone(context, image)) {
    const message = `node ${image.spec.nodeName} is gone, on which the volume was to be made`;
    return { failure: new LaminaError('topology-unsatisfiable', message) };
  }
  const failure = reportedFailure(image, 'Ready');
  return failure && isFinal(failure) ? { failure } : undefined;
}

/**
 * Takes back what cannot be made.
 *
 * @throws LaminaError `busy` where it is not gone in time; then a final answer would leave it behind
 */
async function withdraw({ context, watch, ref, signal }: Creation, image: DiskImage, problem: string): Promise<void> {
  const what = `the volume ${ref.name} cannot be made (${problem}), and node ${image.spec.nodeName} has not cleared it away yet`;
  await withdrawObject(
    { resources: context.images, cache: context.caches.images.cache, watch, ref, signal },
    image,
    what,
  );
  context.checkpoint('create-volume/image-withdrawn');
}

/** What to say when the time is over. */
function unfinished(context: ClusterDiskContext, image: DiskImage): Error {
  const failure = reportedFailure(image, 'Ready');
  if (failure) return failure;
  const { metadata, spec, status } = image;
  const { nodeName } = spec;
  const ready = findCondition(status.conditions, 'Ready');
  const message = ready
    ? `node ${nodeName} is still making the volume ${metadata.name}${status.progress ? ` (${status.progress})` : ''}: ${ready.message}`
    : `node ${nodeName} has not begun to make the volume ${metadata.name}: ${silenceOf(context, nodeName)}`;
  return new LaminaError('busy', message);
}
