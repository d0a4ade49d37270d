import { annotations, finalizers } from '../../api/names.ts';
import type { NodeRequirement, SnapshotInfo } from '../../csi/controller/disk-service.ts';
import { isAlreadyExists } from '../../kube/client/api-error.ts';
import { findCondition } from '../../kube/conditions.ts';
import { isBeingDeleted } from '../../kube/objects.ts';
import type { ObjectWatch } from '../../kube/cache/object-watch.ts';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import type { DiskSnapshot } from '../../api/objects.ts';
import { snapshotIdOf } from '../../store/ids.ts';
import { type ClusterDiskContext, objectNameOf, operate, refIn, watchObject } from './context.ts';
import { snapshotInfo } from './info.ts';
import { readSourceDisk } from './placing.ts';
import { withdrawObject } from './removal.ts';
import { isFinal, isNodeGone, isReady, reportedFailure, silenceOf } from './verdicts.ts';

/** One call of createSnapshot. */
interface Taking {
  context: ClusterDiskContext;
  request: { name: string; diskId: string };
  nodes: NodeRequirement;
  ref: { namespace: string; name: string };
  watch: ObjectWatch<DiskSnapshot>;
  signal: AbortSignal;
}

/**
 * Declares a DiskSnapshot, unless it is there, and waits until the node of its disk has taken it. A failure that trying
 * again does not change is answered when the object is gone again.
 *
 * @throws as DiskService's `createSnapshot`
 */
export async function createSnapshot(
  context: ClusterDiskContext,
  request: { name: string; diskId: string },
  nodes: NodeRequirement,
): Promise<SnapshotInfo> {
  const ref = refIn(context, objectNameOf(request.name, snapshotIdOf));
  return operate(context, `taking the snapshot ${ref.name}`, async (signal) => {
    using watch = watchObject(context.caches.snapshots, ref);
    const taking = { context, request, nodes, ref, watch, signal };
    const existing = await context.snapshots.get(ref, { signal });
    const snapshot = existing ? await usable(taking, existing) : await declare(taking);
    return await waitUntilTaken(taking, snapshot);
  });
}

/**
 * What an earlier call has declared.
 *
 * @throws LaminaError `busy` where it is being deleted, `name-taken` where it is something else, `disk-not-found` where
 *   there is nothing to take any more, when it is cleared away
 */
async function usable(taking: Taking, snapshot: DiskSnapshot): Promise<DiskSnapshot> {
  const { request } = taking;
  const { metadata, spec } = snapshot;
  if (isBeingDeleted(snapshot)) {
    throw new LaminaError('busy', `an earlier snapshot ${metadata.name} is still being deleted; try again`);
  }
  const isSame = metadata.annotations[annotations.csiName] === request.name && spec.diskImageName === request.diskId;
  if (!isSame) {
    throw new LaminaError('name-taken', `a snapshot named ${request.name} exists, of the volume ${spec.diskImageName}`);
  }
  await assertDiskRemains(taking, snapshot);
  return snapshot;
}

/** The disk that is waited for may have been deleted meanwhile, and would be waited for for ever. */
async function assertDiskRemains(taking: Taking, snapshot: DiskSnapshot): Promise<void> {
  if (findCondition(snapshot.status.conditions, 'Ready')?.reason !== 'WaitingForDisk') return;
  const { context, request, signal } = taking;
  try {
    await readSourceDisk(context, request.diskId, signal);
  } catch (error) {
    if (isLaminaError(error, 'disk-not-found')) await withdraw(taking, snapshot, error.message);
    throw error;
  }
}

async function declare(taking: Taking): Promise<DiskSnapshot> {
  const { context, request, nodes, ref, signal } = taking;
  const { spec } = await readSourceDisk(context, request.diskId, signal);
  const { nodeName } = spec;
  if (!(nodes.allowed?.includes(nodeName) ?? true)) {
    throw new LaminaError(
      'topology-unsatisfiable',
      `the snapshot can only be on node ${nodeName}, which has the volume`,
    );
  }
  const manifest = {
    metadata: { ...ref, annotations: { [annotations.csiName]: request.name }, finalizers: [finalizers.snapshot] },
    spec: { diskImageName: request.diskId, nodeName },
  };
  try {
    const snapshot = await context.snapshots.create(manifest, { signal });
    context.checkpoint('create-snapshot/snapshot-declared');
    return snapshot;
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    const other = await context.snapshots.get(ref, { signal });
    if (other) return await usable(taking, other);
    throw new LaminaError('busy', `another snapshot ${ref.name} has just been deleted; try again`, { cause: error });
  }
}

async function waitUntilTaken(taking: Taking, snapshot: DiskSnapshot): Promise<SnapshotInfo> {
  const { context, watch, ref, signal } = taking;
  // Of the node and of the snapshot, either may be known to be gone first.
  watch.dependOn(context.caches.nodes, snapshot.spec.nodeName ?? '');
  const verdict = await watch.until(snapshot, (latest) => judge(context, latest), signal);
  if (verdict === undefined) throw unfinished(context, watch.stateOf(snapshot) ?? snapshot);
  if ('taken' in verdict) {
    context.checkpoint('create-snapshot/snapshot-taken');
    return snapshotInfo(verdict.taken);
  }
  if ('failure' in verdict) {
    await withdraw(taking, snapshot, verdict.failure.message);
    throw verdict.failure;
  }
  throw new LaminaError('busy', `somebody has deleted the snapshot ${ref.name} while it was taken; try again`);
}

/** Takes back what cannot be taken. @throws LaminaError `busy` where it is not gone in time */
async function withdraw(
  { context, watch, ref, signal }: Taking,
  snapshot: DiskSnapshot,
  problem: string,
): Promise<void> {
  const what = `the snapshot ${ref.name} cannot be taken (${problem}), and node ${snapshot.spec.nodeName} has not cleared it away yet`;
  await withdrawObject(
    { resources: context.snapshots, cache: context.caches.snapshots.cache, watch, ref, signal },
    snapshot,
    what,
  );
  context.checkpoint('create-snapshot/snapshot-withdrawn');
}

type Verdict = { taken: DiskSnapshot } | { failure: Error } | { deleted: true };

function judge(context: ClusterDiskContext, snapshot: DiskSnapshot | undefined): Verdict | undefined {
  if (!snapshot || isBeingDeleted(snapshot)) return { deleted: true };
  if (isReady(snapshot)) return { taken: snapshot };
  if (isNodeGone(context, snapshot)) {
    const message = `node ${snapshot.spec.nodeName} is gone, and the volume with it`;
    return { failure: new LaminaError('disk-not-found', message) };
  }
  const failure = reportedFailure(snapshot, 'Ready');
  return failure && isFinal(failure) ? { failure } : undefined;
}

function unfinished(context: ClusterDiskContext, snapshot: DiskSnapshot): Error {
  const failure = reportedFailure(snapshot, 'Ready');
  if (failure) return failure;
  const { metadata, spec, status } = snapshot;
  const ready = findCondition(status.conditions, 'Ready');
  const words = ready
    ? `is still taking the snapshot ${metadata.name}`
    : `has not begun to take the snapshot ${metadata.name}`;
  return new LaminaError(
    'busy',
    `node ${spec.nodeName} ${words}: ${ready?.message ?? silenceOf(context, spec.nodeName)}`,
  );
}
