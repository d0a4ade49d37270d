import { annotations } from '../../api/names.ts';
import type { PersistentVolumeClaim } from '../../kube/kinds/core-kinds.ts';
import type { KubeObject, ObjectRef } from '../../kube/objects.ts';
import { keyOf } from '../../kube/objects.ts';
import { ObjectWatch } from '../../kube/cache/object-watch.ts';
import type { Reflector } from '../../kube/cache/reflector.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import { withDeadline } from '../../lib/deadline.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { Caches } from '../../reconcile/cluster/caches.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import type { ControllerStep } from '../../reconcile/cluster/controller-steps.ts';
import type { PoolRooms } from '../../reconcile/cluster/pool-rooms.ts';

/** What the operations on disks and snapshots of a cluster work with. */
export interface ClusterDiskContext {
  /** Where the objects of volumes and their snapshots are. */
  namespace: string;
  images: ResourceClient<DiskImage>;
  snapshots: ResourceClient<DiskSnapshot>;
  /** PersistentVolumeClaims, of which it is asked for whose pod the scheduler chose which node. */
  claims: ResourceClient<PersistentVolumeClaim>;
  caches: Caches;
  rooms: PoolRooms;
  clock: Clock;
  checkpoint: Checkpoint<ControllerStep>;
  /** For how long an operation waits for the node. */
  timeoutMs: number;
  /** Ends all waiting: the process is to stop. */
  stop: AbortSignal;
}

/** Below the minute after which sidecars give up, so that they are told how far it is. */
export const operationTimeoutMs = 50_000;

/**
 * Runs an operation that changes something, with a signal that aborts when its time is over or the process is to stop.
 *
 * @throws LaminaError `api-unavailable` before the caches are complete; `busy` where the process stops meanwhile
 */
export async function operate<T>(
  { caches, clock, timeoutMs, stop }: ClusterDiskContext,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  requireSynced(caches);
  try {
    return await withDeadline({ clock, timeoutMs, what, signal: stop }, work);
  } catch (error) {
    if (!stop.aborted || error instanceof LaminaError) throw error;
    throw new LaminaError('busy', `${what}: this controller is stopping; ask again`, { cause: error });
  }
}

/** @throws LaminaError `api-unavailable` while anything might be missing in the caches */
export function requireSynced(caches: Caches): void {
  if (Object.values(caches).every((reflector: Reflector<never>) => reflector.hasSynced)) return;
  throw new LaminaError('api-unavailable', 'this controller has just started, and is still reading what there is');
}

export function refIn({ namespace }: ClusterDiskContext, name: string): ObjectRef & { namespace: string } {
  return { namespace, name };
}

export function watchObject<T extends KubeObject>(reflector: Reflector<T>, ref: ObjectRef): ObjectWatch<T> {
  return new ObjectWatch(reflector, keyOf(ref));
}

/** Whether CSI asked for the object; others in the namespace of the system are none of its business. */
export function isOfCsi({ metadata }: KubeObject): boolean {
  return metadata.annotations?.[annotations.csiName] !== undefined;
}

/** What objects can be called; of another id there is none. */
const objectName = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export function isObjectName(text: string): boolean {
  return objectName.test(text);
}

/**
 * The object that CSI knows by that id, from the API server, or undefined where there is none.
 *
 * @throws as ResourceClient's `get`
 */
export async function readOfCsi<T extends KubeObject>(
  resources: ResourceClient<T>,
  ref: ObjectRef,
  signal?: AbortSignal,
): Promise<T | undefined> {
  if (!isObjectName(ref.name)) return undefined;
  const object = await resources.get(ref, { signal });
  return object && isOfCsi(object) ? object : undefined;
}

/** The id for a name that CSI gives. @throws LaminaError `invalid-parameter` where no object can have it */
export function objectNameOf(name: string, idOf: (name: string) => string): string {
  const id = idOf(name);
  // With a slash it could be that of an object in another namespace.
  if (!name.includes('/') && isObjectName(id)) return id;
  throw new LaminaError(
    'invalid-parameter',
    `name '${name}' cannot be used in a cluster: leave out slashes, and dots beside other dots or dashes`,
  );
}
