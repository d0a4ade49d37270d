import { idOfPlace, identityOf, objectOfRecord, type Place } from '../../api/identity.ts';
import { annotations, finalizers } from '../../api/names.ts';
import type { DiskImageManifest, DiskPool, DiskSnapshotManifest } from '../../api/objects.ts';
import { keyOf } from '../../kube/objects.ts';
import { formatQuantity } from '../../lib/quantity.ts';

export type Orphan = DiskPool['status']['orphans'][number];

/** What is known of where objects are, or were. */
export interface OrphanContext {
  systemNamespace: string;
  pool: DiskPool;
  /** Now, for the annotation. */
  adoptedAt: string;
  /** Where the DiskImage, or the DiskSnapshot, is that stands for what pools hold under an id. */
  imageOf: (id: string) => Place | undefined;
  snapshotOf: (id: string) => Place | undefined;
}

type Undeclared<Manifest> = Omit<Manifest, 'apiVersion' | 'kind'> & { metadata: Place };
export type AdoptedImage = Undeclared<DiskImageManifest>;
export type AdoptedSnapshot = Undeclared<DiskSnapshotManifest>;

/** Why something cannot be declared again, for people. */
export type Problem = { problem: string };

/** The DiskImage that a disk, or the content of a sealed one, without an object was of. */
export function imageOfOrphan(orphan: Orphan, context: OrphanContext): AdoptedImage | Problem {
  const metadata = metadataOf(orphan, finalizers.disk, context);
  if ('problem' in metadata) return metadata;
  const { spec } = context.pool;
  const { format, preallocation, liveSnapshots, clusterSize, size } = orphan;
  return {
    metadata,
    spec: {
      size: formatQuantity(size),
      ...(format === undefined ? {} : { format }),
      ...(preallocation === undefined ? {} : { preallocation }),
      ...(liveSnapshots === undefined ? {} : { liveSnapshots }),
      ...(clusterSize === undefined ? {} : { clusterSize: formatQuantity(clusterSize) as ClusterSize }),
      pool: spec.poolName,
      nodeName: spec.nodeName,
      source: sourceOf(orphan, metadata, context),
      // What its content was taken from is not kept with it; nothing is made of it again.
      ...(orphan.kind === 'image' ? { sealed: true } : {}),
    },
  };
}

/** The API server refuses what is none of the values. */
type ClusterSize = NonNullable<DiskImageManifest['spec']['clusterSize']>;
type Source = NonNullable<DiskImageManifest['spec']['source']>;

/** The DiskSnapshot that a snapshot without an object was of. */
export function snapshotOfOrphan(orphan: Orphan, context: OrphanContext): AdoptedSnapshot | Problem {
  const metadata = metadataOf(orphan, finalizers.snapshot, context);
  if ('problem' in metadata) return metadata;
  const disk = placeOfId(orphan.disk, context, context.imageOf);
  if (disk?.namespace !== metadata.namespace) {
    return { problem: `it is not known how the DiskImage of its disk ${orphan.disk} is called` };
  }
  return { metadata, spec: { diskImageName: disk.name, nodeName: context.pool.spec.nodeName } };
}

function metadataOf(orphan: Orphan, finalizer: string, { systemNamespace, adoptedAt }: OrphanContext) {
  const { namespace, name, csiName } = objectOfRecord(orphan.name, systemNamespace);
  const metadata = {
    namespace,
    name,
    annotations: { [annotations.adopted]: adoptedAt, ...(csiName ? { [annotations.csiName]: csiName } : {}) },
    finalizers: [finalizer],
  };
  // Another object would not find it.
  if (identityOf({ metadata }, systemNamespace).id === orphan.id) return metadata;
  return { problem: `its name '${orphan.name}' does not belong to its id` };
}

/** As far as it can still be named; what it starts from is in the pool, whatever the object says. */
function sourceOf({ source, sourceKind }: Orphan, own: Place, context: OrphanContext): Source {
  const place = placeOfId(source, context, sourceKind === 'snapshot' ? context.snapshotOf : context.imageOf);
  const isNear = place?.namespace === own.namespace;
  if (!place || !(isNear || own.namespace === context.systemNamespace)) return { type: 'blank' };
  const reference = isNear ? { name: place.name } : place;
  if (keyOf(place) === keyOf(own)) return { type: 'blank' };
  return sourceKind === 'snapshot'
    ? { type: 'diskSnapshot', diskSnapshot: reference }
    : { type: 'diskImage', diskImage: reference };
}

/** Where the object of an id is. Those of CSI are called by their ids, those that are gone by now too. */
function placeOfId(
  id: string | undefined,
  { systemNamespace }: OrphanContext,
  find: (id: string) => Place | undefined,
): Place | undefined {
  if (id === undefined) return undefined;
  const found = find(id);
  if (found) return found;
  const place = { namespace: systemNamespace, name: id };
  // A hash tells nothing of where the object was.
  return isHash(id) || idOfPlace(place, systemNamespace) !== id ? undefined : place;
}

function isHash(id: string): boolean {
  return id.startsWith('sha256-');
}
