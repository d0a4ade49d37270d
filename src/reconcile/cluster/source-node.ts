import { placeOfReference } from '../../api/identity.ts';
import type { DiskImage } from '../../api/objects.ts';
import { keyOf } from '../../kube/objects.ts';
import { isLaminaError } from '../../lib/errors.ts';
import { type ElectedCaches, handleOfContent, handleOfVolume, indexes } from './caches.ts';

/** Where a DiskImage has to be because of its source, or why that is not known. */
export type SourceNode =
  | { kind: 'anywhere' }
  | { kind: 'node'; nodeName: string }
  | { kind: 'unknown'; reason: 'WaitingForSource' | 'SourceForbidden'; message: string };

type SourceCaches = Pick<ElectedCaches, 'images' | 'snapshots' | 'volumes' | 'contents'>;

/** The node that has what a DiskImage starts from. What is imported comes from outside, and can be taken in anywhere. */
export function sourceNodeOf(image: DiskImage, caches: SourceCaches, systemNamespace: string): SourceNode {
  const { source } = image.spec;
  const { namespace } = image.metadata;
  switch (source.type) {
    case 'blank':
    case 'http':
    case 'registry':
    case 'upload':
      return { kind: 'anywhere' };
    case 'diskImage':
      return nodeOfObject(image, source.diskImage, caches.images, systemNamespace);
    case 'diskSnapshot':
      return nodeOfObject(image, source.diskSnapshot, caches.snapshots, systemNamespace);
    case 'persistentVolumeClaim': {
      const { name } = source.persistentVolumeClaim;
      const volumes = caches.volumes.cache.byIndex(indexes.claim, keyOf({ namespace, name }));
      return nodeOfHandle(`PersistentVolumeClaim ${name}`, volumes.flatMap(handleOfVolume), (handle) =>
        nodeNameIn(caches.images, { namespace: systemNamespace, name: handle }),
      );
    }
    case 'volumeSnapshot': {
      const { name } = source.volumeSnapshot;
      const contents = caches.contents.cache.byIndex(indexes.claim, keyOf({ namespace, name }));
      return nodeOfHandle(`VolumeSnapshot ${name}`, contents.flatMap(handleOfContent), (handle) =>
        nodeNameIn(caches.snapshots, { namespace: systemNamespace, name: handle }),
      );
    }
  }
}

type NodeSource = SourceCaches['images'] | SourceCaches['snapshots'];

function nodeOfObject(
  image: DiskImage,
  reference: { name: string; namespace?: string | undefined },
  reflector: NodeSource,
  systemNamespace: string,
): SourceNode {
  try {
    const place = placeOfReference(image, reference, systemNamespace);
    const nodeName = nodeNameIn(reflector, place);
    if (nodeName !== undefined) return { kind: 'node', nodeName };
    const what = `${reflector.type.kind} ${keyOf(place)}`;
    return waiting(reflector.cache.has(keyOf(place)) ? `${what} has no node yet` : `there is no ${what}`);
  } catch (error) {
    if (!isLaminaError(error, 'invalid-parameter')) throw error;
    return { kind: 'unknown', reason: 'SourceForbidden', message: error.message };
  }
}

function nodeOfHandle(
  what: string,
  [handle]: readonly string[],
  nodeNameOf: (handle: string) => string | undefined,
): SourceNode {
  if (handle === undefined) return waiting(`${what} is not there, not ready, or not of this driver`);
  const nodeName = nodeNameOf(handle);
  return nodeName === undefined ? waiting(`it is not known which node has ${what}`) : { kind: 'node', nodeName };
}

function nodeNameIn({ cache }: NodeSource, place: { namespace: string; name: string }): string | undefined {
  const key = keyOf(place);
  return cache.has(key) ? cache.get(key)?.spec.nodeName : undefined;
}

function waiting(message: string): SourceNode {
  return { kind: 'unknown', reason: 'WaitingForSource', message: `The source: ${message}.` };
}
