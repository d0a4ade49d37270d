import type { DiskPool, DiskPoolManifest } from '../../api/objects.ts';
import { timestampOf } from '../../kube/conditions.ts';
import { formatQuantity } from '../../lib/quantity.ts';
import type { Pool } from '../../store/pool.ts';
import type { DiskRecord, ImageRecord, SnapshotRecord } from '../../store/records.ts';
import { diskIdOfImage, imageIdOfObject, snapshotIdOfObject } from '../identity.ts';
import type { NodeContext } from './node-context.ts';

type Orphan = NonNullable<NonNullable<DiskPoolManifest['status']>['orphans']>[number];

/** The most that an object lists; the others follow as these are worked off. */
const maxListed = 256;

export interface Orphans {
  count: number;
  listed: Orphan[];
}

/** What a pool holds without an object in the cluster, oldest first. The caches must have synced. */
export function findOrphans(pool: Pool, context: NodeContext, known: DiskPool | undefined): Orphans {
  const { images, snapshots, systemNamespace, clock } = context;
  const declared = images.list();
  const ofDisks = declared.filter(({ spec }) => !spec.sealed);
  const ofImages = declared.filter(({ spec }) => spec.sealed);
  const claimedDisks = new Set<string>(ofDisks.map((image) => diskIdOfImage(image, systemNamespace)));
  const claimedImages = new Set<string>(ofImages.map((image) => imageIdOfObject(image, systemNamespace)));
  const claimedSnapshots = new Set<string>(
    snapshots.list().map((object) => snapshotIdOfObject(object, systemNamespace)),
  );
  const foundBefore = new Map(known?.status.orphans.map(({ kind, id, foundAt }) => [`${kind} ${id}`, foundAt]));
  const foundAt = (kind: string, id: string) => foundBefore.get(`${kind} ${id}`) ?? timestampOf(clock.now());
  const disks = [...pool.disks.values()].filter(({ id }) => !claimedDisks.has(id));
  const taken = [...pool.snapshots.values()].filter(
    ({ id, state, transient }) => state === 'ready' && !transient && !claimedSnapshots.has(id),
  );
  const sealed = [...pool.images.values()].filter(({ id }) => !claimedImages.has(id));
  const oldestFirst = (a: { createdAt: string }, b: { createdAt: string }) => (a.createdAt < b.createdAt ? -1 : 1);
  const all = [
    ...disks.sort(oldestFirst).map((disk) => diskOrphan(disk, foundAt('disk', disk.id))),
    ...taken.sort(oldestFirst).map((snapshot) => snapshotOrphan(snapshot, foundAt('snapshot', snapshot.id))),
    ...sealed.sort(oldestFirst).map((image) => imageOrphan(image, pool, foundAt('image', image.id))),
  ];
  return { count: all.length, listed: all.slice(0, maxListed) };
}

function diskOrphan(disk: DiskRecord, foundAt: string): Orphan {
  const { options, source } = disk;
  const { format, preallocation, clusterSizeBytes, liveSnapshots } = options;
  return {
    kind: 'disk',
    ...commonOf(disk, foundAt),
    format,
    preallocation,
    liveSnapshots,
    ...(clusterSizeBytes === null ? {} : { clusterSize: formatQuantity(clusterSizeBytes) }),
    ...(source === null ? {} : { source: source.id, sourceKind: source.kind }),
  };
}

function snapshotOrphan(snapshot: SnapshotRecord, foundAt: string): Orphan {
  return { kind: 'snapshot', ...commonOf(snapshot, foundAt), disk: snapshot.disk };
}

function imageOrphan(image: ImageRecord, pool: Pool, foundAt: string): Orphan {
  const { layer, digest } = image;
  const { format } = pool.layer(layer);
  return { kind: 'image', ...commonOf(image, foundAt), format, ...(digest === null ? {} : { digest }) };
}

function commonOf({ id, name, sizeBytes, createdAt }: DiskRecord | SnapshotRecord | ImageRecord, foundAt: string) {
  return { id, name, size: formatQuantity(sizeBytes), createdAt: timestampOf(new Date(createdAt)), foundAt };
}
