import { isConflict, isObjectMissing } from './client/api-error.ts';
import { patchObject } from './apply.ts';
import { isBeingDeleted, type KubeObject } from './objects.ts';
import type { CallOptions, ResourceClient } from './client/resource-client.ts';

export function hasFinalizer({ metadata }: KubeObject, finalizer: string): boolean {
  return metadata.finalizers?.includes(finalizer) ?? false;
}

/**
 * Has the object stay until the finalizer is removed, unless it does already, or is being deleted: then it is too late.
 *
 * @throws ApiError, with isConflict where `live` is out of date
 */
export async function ensureFinalizer<T extends KubeObject>(
  resources: ResourceClient<T>,
  live: T,
  finalizer: string,
  options: CallOptions = {},
): Promise<T> {
  if (hasFinalizer(live, finalizer) || isBeingDeleted(live)) return live;
  const finalizers = [...(live.metadata.finalizers ?? []), finalizer];
  return patchObject(resources, live, { metadata: { finalizers } }, options);
}

/**
 * Lets the object go, as far as this finalizer is concerned; fine where it is gone.
 *
 * @throws ApiError, with isConflict where `live` is out of date
 */
export async function removeFinalizerIfPresent<T extends KubeObject>(
  resources: ResourceClient<T>,
  live: T,
  finalizer: string,
  options: CallOptions = {},
): Promise<void> {
  if (!hasFinalizer(live, finalizer)) return;
  const finalizers = live.metadata.finalizers?.filter((other) => other !== finalizer) ?? [];
  try {
    await patchObject(resources, live, { metadata: { finalizers } }, options);
  } catch (error) {
    if (isObjectMissing(error, live.metadata.name)) return;
    // Gone, and another of the same name is there: that one is not ours to touch.
    if (isConflict(error) && (await resources.get(live.metadata, options))?.metadata.uid !== live.metadata.uid) return;
    throw error;
  }
}
