import { findCondition } from '../../kube/conditions.ts';
import { keyOf } from '../../kube/objects.ts';
import type { DiskInfo, SnapshotInfo } from '../../csi/controller/disk-service.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';

/** Whether the disk was made once; before that, nobody was told of it. */
export function isMade({ status }: DiskImage): boolean {
  return status.diskId !== undefined && status.virtualSize !== undefined;
}

export function diskInfo({ metadata, spec, status }: DiskImage): DiskInfo {
  return {
    id: metadata.name,
    sizeBytes: status.virtualSize ?? spec.size ?? 0,
    source: sourceOf(spec.source),
    unhealthy: problemOf(status.conditions),
    nodeName: spec.nodeName ?? '',
    attached: status.attached ?? false,
  };
}

export function isTaken({ status }: DiskSnapshot): boolean {
  return status.creationTime !== undefined && status.restoreSize !== undefined;
}

export function snapshotInfo({ metadata, spec, status }: DiskSnapshot): SnapshotInfo {
  return {
    id: metadata.name,
    diskId: spec.diskImageName,
    sizeBytes: status.restoreSize ?? 0,
    createdAt: new Date(status.creationTime ?? metadata.creationTimestamp),
    ready: findCondition(status.conditions, 'Ready')?.status === 'True',
  };
}

/** A sealed DiskImage as a snapshot, of a disk that CSI does not know. */
export function imageInfo(id: string, { metadata, status }: DiskImage): SnapshotInfo {
  const { virtualSize = 0 } = status;
  return { id, diskId: '', sizeBytes: virtualSize, createdAt: new Date(metadata.creationTimestamp), ready: true };
}

function sourceOf(source: DiskImage['spec']['source']): DiskInfo['source'] {
  if (source.type === 'diskImage') {
    const { namespace, name } = source.diskImage;
    // Volumes name no namespace of each other.
    return namespace === undefined ? { kind: 'disk', id: name } : { kind: 'image', id: keyOf({ namespace, name }) };
  }
  return source.type === 'diskSnapshot' ? { kind: 'snapshot', id: source.diskSnapshot.name } : null;
}

/** Of a disk that was made; it is not ready any more where it is lost, or its node. */
function problemOf(conditions: DiskImage['status']['conditions']): string | null {
  const [worst] = ['Ready', 'Healthy'].flatMap((type) => findCondition(conditions, type) ?? []).filter(isProblem);
  return worst ? `${worst.reason}: ${worst.message}` : null;
}

function isProblem({ status, reason }: DiskImage['status']['conditions'][number]): boolean {
  return status === 'False' || (status === 'Unknown' && reason === 'NodeSilent');
}
