import { isImported } from '../../api/disk-source.ts';
import { placeOfReference } from '../../api/identity.ts';
import type { DiskImage } from '../../api/objects.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { DiskId, DiskSource, ImageId, SnapshotId } from '../../store/records.ts';
import { diskIdOfRef, snapshotIdOfRef } from '../identity.ts';
import type { NodeContext } from './node-context.ts';
import type { ServedPool } from './node-pools.ts';
import { type Origin, originOfImage } from '../origin.ts';

/** What a DiskImage starts from, as a pool of this node holds it. */
export type FoundSource =
  | { kind: 'none' }
  | { kind: 'found'; content: DiskSource }
  /** On another node. */
  | { kind: 'remote'; origin: Origin }
  /** Null where the controller says what is waited for. */
  | { kind: 'waiting'; message: string | null };

/**
 * Finds what a DiskImage starts from that is no import.
 *
 * @throws LaminaError `invalid-parameter` for a source in another namespace, and for one from outside: what starts from
 *   nothing would be another disk than the one that was asked for
 */
export function findSource(
  { systemNamespace, nodeName }: NodeContext,
  image: DiskImage,
  pool: ServedPool,
): FoundSource {
  const { source } = image.spec;
  const { origin } = image.status;
  if (origin && origin.nodeName !== nodeName) return { kind: 'remote', origin };
  const at = (ref: { name: string; namespace?: string | undefined }) => placeOfReference(image, ref, systemNamespace);
  if (isImported(source)) {
    throw new LaminaError(
      'invalid-parameter',
      `what is imported (source.type ${source.type}) is sealed: declare a DiskImage without sealed: false, and a disk that starts from it by source.diskImage`,
    );
  }
  switch (source.type) {
    case 'blank':
      return { kind: 'none' };
    case 'diskImage': {
      // Sealed or not, it is called the same.
      const id = diskIdOfRef(at(source.diskImage), systemNamespace);
      return inPool(image, pool, [
        { kind: 'disk', id },
        { kind: 'image', id },
        // Of one on another node there may be a copy here.
        ...(origin ? [{ kind: origin.kind, id: origin.id }] : []),
      ]);
    }
    case 'diskSnapshot':
      return inPool(image, pool, [{ kind: 'snapshot', id: snapshotIdOfRef(at(source.diskSnapshot), systemNamespace) }]);
    case 'persistentVolumeClaim':
    case 'volumeSnapshot': {
      if (origin) return inPool(image, pool, [{ kind: origin.kind, id: origin.id }]);
      return { kind: 'waiting', message: null };
    }
  }
}

function inPool(image: DiskImage, { context: { pool } }: ServedPool, candidates: readonly DiskSource[]): FoundSource {
  const content = candidates.find(({ kind, id }) => {
    if (kind === 'snapshot') return pool.snapshots.get(id as SnapshotId)?.state === 'ready';
    return kind === 'disk' ? pool.disks.has(id as DiskId) : pool.images.has(id as ImageId);
  });
  if (content) return { kind: 'found', content };
  const what = originOfImage(image).join() || `the ${image.spec.source.type}`;
  return {
    kind: 'waiting',
    message: `The pool ${image.spec.pool} of this node does not hold ${what}: declare the source, or wait until it is ready.`,
  };
}
