import { isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import { type KubeObject, keyOf, type ObjectRef } from '../objects.ts';

/** A kind of object: how its URLs are made and what is in it. */
export interface ResourceType<T extends KubeObject> {
  /** `lamina.storage`; empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  /** As in URLs: `diskimages`. */
  readonly plural: string;
  readonly namespaced: boolean;
  /** Makes a typed object of what the API server sent, such as a zod schema's parse. Throws where it is none. */
  readonly parse: (json: unknown) => T;
  /** The same for members of the status, whose names it keeps; they are taken as they are where there is none. */
  readonly parseStatus?: ((json: unknown) => unknown) | undefined;
}

export function apiVersionOf({ group, version }: ResourceType<KubeObject>): string {
  return group ? `${group}/${version}` : version;
}

/** The URL path of all objects of a type, in one namespace where one is given. */
export function collectionPath(type: ResourceType<KubeObject>, namespace?: string): string {
  const root = type.group ? `/apis/${type.group}/${type.version}` : `/api/${type.version}`;
  return namespace && type.namespaced
    ? `${root}/namespaces/${encodeURIComponent(namespace)}/${type.plural}`
    : `${root}/${type.plural}`;
}

/** The URL path of one object, or of a subresource of it. @throws LaminaError `invalid-parameter` without a name or the namespace it needs */
export function objectPath(type: ResourceType<KubeObject>, { namespace, name }: ObjectRef, subresource = ''): string {
  if (!name || (type.namespaced && !namespace)) {
    throw new LaminaError(
      'invalid-parameter',
      `a ${type.kind} needs ${name ? 'a namespace' : 'a name'} to be found by`,
    );
  }
  const path = `${collectionPath(type, namespace)}/${encodeURIComponent(name)}`;
  return subresource ? `${path}/${subresource}` : path;
}

/**
 * Makes a typed object of what the API server sent, without the parts that only cost memory (managedFields).
 *
 * @throws LaminaError `resource-invalid`
 */
export function decodeObject<T extends KubeObject>(type: ResourceType<T>, json: unknown): T {
  const { managedFields: _, ...metadata } = metadataOf(json, type.kind);
  try {
    return type.parse({ ...(json as object), metadata });
  } catch (error) {
    if (isLaminaError(error, 'resource-invalid')) throw error;
    throw new LaminaError(
      'resource-invalid',
      `${type.kind} ${keyOf(metadata)} is not what this version of Lamina understands: ${messageOf(error).replaceAll(/\s+/g, ' ')}; correct the object, or install the CRDs of this version`,
      { cause: error },
    );
  }
}

/**
 * The metadata of anything that claims to be an object.
 *
 * @throws LaminaError `api-unavailable` where it is none: then it is the answer that is broken, not the object
 */
export function metadataOf(
  json: unknown,
  kind: string,
): KubeObject['metadata'] & { resourceVersion: string; managedFields?: unknown } {
  const metadata = (json as { metadata?: { name?: unknown; resourceVersion?: unknown } } | null)?.metadata;
  if (typeof metadata?.name !== 'string' || typeof metadata.resourceVersion !== 'string') {
    throw new LaminaError('api-unavailable', `the API server sent a ${kind} without a name or resourceVersion`);
  }
  return metadata as KubeObject['metadata'] & { resourceVersion: string };
}
