import { groupVersion } from '../../api/names.ts';
import { type DiskImage, type DiskImageManifest, diskImages } from '../../api/objects.ts';
import type { ObjectRef } from '../../kube/objects.ts';
import { ownerReference } from '../../kube/owners.ts';
import { derivedName } from './derived-name.ts';

/**
 * The name of the DiskImage that is the copy on a node. Of the uid, as the copy of an earlier image of that name may
 * still be going.
 */
export function copyNameOf({ metadata: { name, uid } }: DiskImage, nodeName: string): string {
  return derivedName(name, 'copy', `${uid} ${nodeName}`);
}

/** The copy on a node, as it is to be declared: it starts from the original, and goes with it. */
export function copyOf(image: DiskImage, nodeName: string): DiskImageManifest {
  const { namespace = '', name } = image.metadata;
  const { pool, format } = image.spec;
  return {
    apiVersion: groupVersion,
    kind: 'DiskImage',
    metadata: {
      namespace,
      name: copyNameOf(image, nodeName),
      ownerReferences: [ownerReference(diskImages, image, { controller: true })],
    },
    spec: { sealed: true, format, pool, nodeName, source: { type: 'diskImage', diskImage: { name } } },
  };
}

/** The DiskImage that an object says it is a copy of; nothing where it is none. */
export function originalOf({ metadata: { namespace, ownerReferences } }: DiskImage): (ObjectRef & { uid: string })[] {
  return ownerReferences.flatMap(({ apiVersion, kind, name, uid, controller }) =>
    controller && kind === 'DiskImage' && apiVersion === groupVersion ? [{ namespace, name, uid }] : [],
  );
}

/** Whether we have declared it as the copy of `image` on its node. Others may own themselves by what they like. */
export function isCopyOf(copy: DiskImage, image: DiskImage): boolean {
  const { nodeName } = copy.spec;
  const isOwned = originalOf(copy).some(({ uid }) => uid === image.metadata.uid);
  return isOwned && nodeName !== undefined && copy.metadata.name === copyNameOf(image, nodeName);
}
