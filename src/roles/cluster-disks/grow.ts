import type { DiskInfo, SizeRange } from '../../csi/controller/disk-service.ts';
import { isConflict } from '../../kube/client/api-error.ts';
import { contains } from '../../kube/apply.ts';
import { isBeingDeleted, type ObjectRef } from '../../kube/objects.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { formatQuantity } from '../../lib/quantity.ts';
import type { DiskImage } from '../../api/objects.ts';
import { roomFor } from '../../reconcile/cluster/placement.ts';
import { chooseSize, isWithin } from '../../store/create-disk.ts';
import { takesSpaceAtOnce } from '../../store/space.ts';
import { type ClusterDiskContext, operate, readOfCsi, refIn, watchObject } from './context.ts';
import { diskInfo, isMade } from './info.ts';
import { currentCondition, isFinal, reportedFailure, silenceOf } from './verdicts.ts';

/**
 * Has the node grow a disk. Where that fails for good, the old size is wanted again, so that nobody grows it later
 * unasked.
 *
 * @throws as DiskService's `growDisk`
 */
export async function growDisk(context: ClusterDiskContext, diskId: string, range: SizeRange): Promise<DiskInfo> {
  return operate(context, `growing the volume ${diskId}`, async (signal) => {
    const ref = refIn(context, diskId);
    using watch = watchObject(context.caches.images, ref);
    const image = await readVolume(context, ref, signal);
    const sizeBytes = wantedSize(image, range);
    const size = image.spec.size ?? 0;
    if (size < sizeBytes) assertRoom(context, image, sizeBytes);
    const wanted = await patchSpec(context, image, { size: sizeBytes }, signal);
    context.checkpoint('grow-volume/size-wanted');
    const verdict = await watch.until(wanted, (latest) => judge(latest, sizeBytes), signal);
    if (verdict === undefined) throw unfinished(context, watch.stateOf(wanted) ?? wanted);
    if ('grown' in verdict) return diskInfo(verdict.grown);
    await wantOldSize(context, ref, sizeBytes, signal);
    context.checkpoint('grow-volume/old-size-wanted');
    throw verdict.failure;
  });
}

/** What can be changed of a disk while it lives; the node has taken it over when this returns. @throws LaminaError `disk-not-found`, `busy` */
export async function modifyDisk(
  context: ClusterDiskContext,
  diskId: string,
  { liveSnapshots }: { liveSnapshots?: boolean },
): Promise<DiskInfo> {
  return operate(context, `changing the volume ${diskId}`, async (signal) => {
    const ref = refIn(context, diskId);
    using watch = watchObject(context.caches.images, ref);
    const image = await readVolume(context, ref, signal);
    if (liveSnapshots === undefined) return diskInfo(image);
    const wanted = await patchSpec(context, image, { liveSnapshots }, signal);
    context.checkpoint('modify-volume/change-wanted');
    const isTakenOver = (latest: DiskImage | undefined) =>
      !latest || (latest.status.observedGeneration ?? 0) >= wanted.metadata.generation ? true : undefined;
    if (await watch.until(wanted, isTakenOver, signal)) return diskInfo(watch.stateOf(wanted) ?? wanted);
    const { nodeName } = image.spec;
    throw new LaminaError(
      'busy',
      `node ${nodeName} has not taken over the change of volume ${diskId} yet: ${silenceOf(context, nodeName)}`,
    );
  });
}

async function readVolume(context: ClusterDiskContext, ref: ObjectRef, signal: AbortSignal): Promise<DiskImage> {
  const image = await readOfCsi(context.images, ref, signal);
  if (!image) throw new LaminaError('disk-not-found', `there is no volume ${ref.name}`);
  if (isBeingDeleted(image)) throw new LaminaError('busy', `the volume ${ref.name} is being deleted`);
  if (!isMade(image)) throw new LaminaError('busy', `the volume ${ref.name} is still being made; try again`);
  return image;
}

/** The size that it has, if that will do. @throws LaminaError `size-out-of-range` */
function wantedSize({ status }: DiskImage, range: SizeRange): number {
  const { virtualSize = 0 } = status;
  return isWithin(virtualSize, range) ? virtualSize : chooseSize(range, virtualSize, 'volume');
}

/** @throws LaminaError `pool-full` where the pool says that it would not take it */
function assertRoom({ rooms }: ClusterDiskContext, image: DiskImage, sizeBytes: number): void {
  const { metadata, spec, status } = image;
  const pool = rooms.candidate(spec.pool, spec.nodeName ?? '');
  // Where nothing is known of the pool, the node decides.
  if (!pool || pool.obstacle !== null) return;
  // On top of other layers it is thin, whatever it was when it was blank.
  const isThick = takesSpaceAtOnce(spec.preallocation) && (status.chainDepth ?? 1) === 1;
  const moreBytes = sizeBytes - (status.virtualSize ?? 0);
  const roomBytes = Math.max(0, roomFor(pool, { isThick }));
  if (moreBytes <= roomBytes) return;
  throw new LaminaError(
    'pool-full',
    `the volume ${metadata.name} cannot grow by ${formatBytes(moreBytes)}: its pool '${spec.pool}' on node ${spec.nodeName} has room for ${formatBytes(roomBytes)}. Delete volumes or snapshots, or add space`,
  );
}

/**
 * Changes the spec of this very object, unless it is so already. The node may report on it at the same moment: what it
 * writes is not touched, so that is no conflict.
 */
async function patchSpec(
  { images }: ClusterDiskContext,
  image: DiskImage,
  spec: { size?: number; liveSnapshots?: boolean },
  signal: AbortSignal,
): Promise<DiskImage> {
  if (contains(image.spec, spec)) return image;
  const { namespace, name, uid } = image.metadata;
  const size = spec.size === undefined ? {} : { size: formatQuantity(spec.size) };
  return images.mergePatch({ namespace, name }, { metadata: { uid }, spec: { ...spec, ...size } }, { signal });
}

const maxConflicts = 5;

/** Wants the size again that the disk has, unless somebody wants another one by now. */
async function wantOldSize(
  context: ClusterDiskContext,
  ref: ObjectRef,
  failedBytes: number,
  signal: AbortSignal,
): Promise<void> {
  for (let conflicts = 0; ; conflicts++) {
    const image = await context.images.get(ref, { signal });
    const { virtualSize } = image?.status ?? {};
    if (!image || virtualSize === undefined || image.spec.size !== failedBytes || virtualSize >= failedBytes) return;
    try {
      const { resourceVersion } = image.metadata;
      const patch = { metadata: { resourceVersion }, spec: { size: formatQuantity(virtualSize) } };
      await context.images.mergePatch(ref, patch, { signal });
      return;
    } catch (error) {
      // The node reports on the object meanwhile.
      if (!isConflict(error) || conflicts >= maxConflicts) throw error;
    }
  }
}

type Verdict = { grown: DiskImage } | { failure: Error };

function judge(image: DiskImage | undefined, sizeBytes: number): Verdict | undefined {
  if (!image || isBeingDeleted(image)) return { failure: new LaminaError('busy', 'the volume is being deleted') };
  const sized = currentCondition(image, 'Sized');
  if (sized?.status === 'True' && (image.status.virtualSize ?? 0) >= sizeBytes) return { grown: image };
  if (sized?.reason === 'WaitingForDetach') return { failure: new LaminaError('disk-in-use', sized.message) };
  const failure = reportedFailure(image, 'Sized');
  return failure && isFinal(failure) ? { failure } : undefined;
}

function unfinished(context: ClusterDiskContext, image: DiskImage): Error {
  const failure = reportedFailure(image, 'Sized');
  if (failure) return failure;
  const { metadata, spec } = image;
  const sized = currentCondition(image, 'Sized');
  const words = sized
    ? `is still growing the volume ${metadata.name}`
    : `has not begun to grow the volume ${metadata.name}`;
  return new LaminaError(
    'busy',
    `node ${spec.nodeName} ${words}: ${sized?.message ?? silenceOf(context, spec.nodeName)}`,
  );
}
