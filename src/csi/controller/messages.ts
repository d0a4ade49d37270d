import type { Snapshot, Volume, VolumeContentSource } from '../../gen/csi.ts';
import { topologyOf } from '../validation/topology.ts';
import { invalid, maxTextBytes, requireId } from '../validation/text.ts';
import type { CreateDiskRequest, DiskInfo, SnapshotInfo } from './disk-service.ts';

type Source = CreateDiskRequest['source'];

/** CSI has no word for golden images: they are snapshots whose ids begin so. No id of a snapshot of ours has a slash. */
const imagePrefix = 'diskimage/';

/** The snapshot id by which the DiskImage `namespace/name` is a volume's source. */
export function imageSnapshotId(key: string): string {
  return imagePrefix + key;
}

/** `namespace/name` of the DiskImage that a snapshot id stands for; undefined for one of a snapshot. */
export function imageKeyOf(snapshotId: string): string | undefined {
  return snapshotId.startsWith(imagePrefix) ? snapshotId.slice(imagePrefix.length) : undefined;
}

/** Those of DiskImages are as long as the names of namespaces and objects may be, beyond what CSI recommends for ids. */
const maxImageIdBytes = imagePrefix.length + 63 + 1 + 253;

/** @throws LaminaError `invalid-parameter` where `value` is empty or too long */
export function requireSnapshotId(field: string, value: string): string {
  return requireId(field, value, imageKeyOf(value) === undefined ? maxTextBytes : maxImageIdBytes);
}

/** The volume context is empty: a disk's own record says all that a node needs to know. */
export function volumeOf(disk: DiskInfo): Volume {
  return {
    volumeId: disk.id,
    capacityBytes: BigInt(disk.sizeBytes),
    volumeContext: {},
    contentSource: contentSourceOf(disk.source),
    accessibleTopology: [topologyOf(disk.nodeName)],
  };
}

export function snapshotOf(snapshot: SnapshotInfo): Snapshot {
  return {
    snapshotId: snapshot.id,
    sourceVolumeId: snapshot.diskId,
    sizeBytes: BigInt(snapshot.sizeBytes),
    creationTime: snapshot.createdAt,
    readyToUse: snapshot.ready,
    groupSnapshotId: '',
    // Not without the capability SNAPSHOT_ACCESSIBILITY_CONSTRAINTS.
    accessibleTopology: [],
  };
}

function contentSourceOf(source: Source): VolumeContentSource | undefined {
  if (!source) return undefined;
  if (source.kind === 'disk') return { type: { $case: 'volume', value: { volumeId: source.id } } };
  const snapshotId = source.kind === 'image' ? imageSnapshotId(source.id) : source.id;
  return { type: { $case: 'snapshot', value: { snapshotId } } };
}

/** @throws LaminaError `invalid-parameter` for a source of a kind we do not know, or without an id */
export function parseContentSource(given: VolumeContentSource | undefined): Source {
  if (!given) return null;
  switch (given.type?.$case) {
    case 'snapshot': {
      const id = requireSnapshotId('volume_content_source.snapshot.snapshot_id', given.type.value.snapshotId);
      const image = imageKeyOf(id);
      return image === undefined ? { kind: 'snapshot', id } : { kind: 'image', id: image };
    }
    case 'volume':
      return { kind: 'disk', id: requireId('volume_content_source.volume.volume_id', given.type.value.volumeId) };
    case undefined:
      throw invalid('volume_content_source is of no known kind; a snapshot or a volume can be a source');
  }
}
