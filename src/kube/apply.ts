import { isDeepStrictEqual } from 'node:util';
import { LaminaError } from '../lib/errors.ts';
import type { KubeObject, Manifest, ObjectMeta } from './objects.ts';
import type { ApplyOptions, PatchOptions, ResourceClient } from './client/resource-client.ts';
import { apiVersionOf } from './client/resource-type.ts';

/** A JSON merge patch (RFC 7386): null removes a member, lists are replaced as a whole. */
export interface MergePatch {
  metadata?: Readonly<Record<string, unknown>>;
  spec?: Readonly<Record<string, unknown>>;
}

/** What an object is to be: all of its spec, and some of its labels and annotations. */
export interface WantedObject extends Manifest {
  metadata: Manifest['metadata'] & Pick<ObjectMeta, 'labels' | 'annotations' | 'ownerReferences' | 'finalizers'>;
  spec?: unknown;
}

/**
 * Makes the object as it is wanted, by server-side apply, unless it is so already.
 *
 * @param live the object as it is known, undefined where there is none
 * @returns the object as it is now
 */
export async function ensureObject<T extends KubeObject & { spec?: unknown }>(
  resources: ResourceClient<T>,
  live: T | undefined,
  wanted: WantedObject,
  options: ApplyOptions,
): Promise<T> {
  if (live && isAsWanted(resources, live, wanted)) return live;
  return resources.apply(wanted, options);
}

function isAsWanted<T extends KubeObject & { spec?: unknown }>(
  { type }: ResourceClient<T>,
  live: T,
  wanted: WantedObject,
): boolean {
  const { name: _, namespace: __, ...metadata } = wanted.metadata;
  if (!contains(live.metadata, metadata)) return false;
  // Parsed, so that what means the same is the same: 1Gi and 1024Mi, a default and its absence.
  const whole = { ...wanted, metadata: live.metadata, apiVersion: apiVersionOf(type), kind: type.kind };
  return isDeepStrictEqual(type.parse(whole).spec, live.spec);
}

/**
 * Writes members of the status, unless they are so already. Members that are not given stay as they are, and null
 * removes one.
 *
 * @returns the object as it is now
 * @throws ApiError, with isConflict where `live` is out of date: what was concluded from it may be wrong
 */
export async function writeStatus<T extends KubeObject & { status?: unknown }>(
  resources: ResourceClient<T>,
  live: T,
  members: Readonly<Record<string, unknown>>,
  { signal }: PatchOptions = {},
): Promise<T> {
  const given = Object.entries(members).filter(([, value]) => value !== undefined);
  const wanted = parsedMembers(resources, Object.fromEntries(given.filter(([, value]) => value !== null)));
  const known = (live.status ?? {}) as Record<string, unknown>;
  const different = given.filter(([name]) => !isDeepStrictEqual(wanted[name], known[name]));
  if (different.length === 0) return live;
  const { resourceVersion } = live.metadata;
  const patch = { metadata: { resourceVersion }, status: Object.fromEntries(different) };
  return resources.mergePatch(live.metadata, patch, { signal, subresource: 'status' });
}

/** The members in the form in which the object has them. */
function parsedMembers<T extends KubeObject>(
  { type }: ResourceClient<T>,
  members: Record<string, unknown>,
): Record<string, unknown> {
  const parsed = (type.parseStatus?.(members) ?? members) as Record<string, unknown>;
  const unknown = Object.keys(members).filter((name) => !(name in parsed));
  if (unknown.length === 0) return parsed;
  // The API server would drop it silently, and it would be written again and again.
  throw new LaminaError('resource-invalid', `the status of a ${type.kind} has no ${unknown.join(' and no ')}`);
}

/**
 * Changes metadata or spec, unless they are so already. What is in `patch` is compared as it stands there, so give
 * values in the form that a parsed object has.
 *
 * @returns the object as it is now
 * @throws ApiError, with isConflict where `live` is out of date
 */
export async function patchObject<T extends KubeObject>(
  resources: ResourceClient<T>,
  live: T,
  patch: MergePatch,
  { signal }: PatchOptions = {},
): Promise<T> {
  if (contains(live, patch)) return live;
  const body = { ...patch, metadata: { ...patch.metadata, resourceVersion: live.metadata.resourceVersion } };
  return resources.mergePatch(live.metadata, body, { signal });
}

/** Whether a merge patch would change nothing: whatever it has is so already, and what it removes is not there. */
export function contains(live: unknown, patch: unknown): boolean {
  if (patch === null) return live === undefined || live === null;
  if (!isRecord(patch)) return isDeepStrictEqual(live, patch);
  if (!isRecord(live)) return false;
  return Object.entries(patch).every(([name, value]) => value === undefined || contains(live[name], value));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
