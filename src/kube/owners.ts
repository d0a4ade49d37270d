import type { KubeObject, OwnerReference } from './objects.ts';
import { apiVersionOf, type ResourceType } from './client/resource-type.ts';

/**
 * A reference to an owner of the same namespace, or of none: the object is deleted with it. At most one owner is the
 * controller.
 */
export function ownerReference<T extends KubeObject>(
  type: ResourceType<T>,
  { metadata: { name, uid } }: T,
  { controller }: { controller: boolean },
): OwnerReference {
  return { apiVersion: apiVersionOf(type), kind: type.kind, name, uid: uid ?? '', controller };
}

/** Whether `object` is deleted with `owner`. Names come back, so the uid decides. */
export function isOwnedBy(
  { metadata: { ownerReferences = [] } }: KubeObject,
  { metadata: { uid } }: KubeObject,
): boolean {
  return ownerReferences.some((reference) => reference.uid === uid);
}
