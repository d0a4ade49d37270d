import { createHash } from 'node:crypto';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import { isTrue } from '../../kube/conditions.ts';
import type { Origin } from '../origin.ts';

/** What a DiskImage is in its pool; undefined before it is made. */
export function originAtImage({ spec, status: { diskId } }: DiskImage): Origin | undefined {
  const { nodeName, pool, sealed } = spec;
  if (diskId === undefined || nodeName === undefined) return undefined;
  return { kind: sealed ? 'image' : 'disk', id: diskId, nodeName, pool };
}

/** What a DiskSnapshot is in its pool; undefined before it is taken. */
export function originAtSnapshot({ spec, status }: DiskSnapshot): Origin | undefined {
  const { snapshotId, pool } = status;
  const nodeName = spec.nodeName ?? status.nodeName;
  if (snapshotId === undefined || nodeName === undefined) return undefined;
  return { kind: 'snapshot', id: snapshotId, nodeName, ...(pool === undefined ? {} : { pool }) };
}

/**
 * Which of those that have the content of `original` a DiskImage gets it from: the original or a copy in its own pool,
 * else any whose node can be reached. What was chosen once stays so as long as that holds; those that ask at the same
 * time are spread.
 *
 * @param isReachable whether others can fetch from a pool of a node now
 * @param original sealed, as its copies are
 * @returns `near` where the original is on the node itself, which sees it; undefined where nothing has the content yet
 */
export function chooseOrigin(
  image: DiskImage,
  original: DiskImage,
  { copies, isReachable }: { copies: readonly DiskImage[]; isReachable: (origin: Origin) => boolean },
): Origin | 'near' | undefined {
  const { nodeName, pool } = image.spec;
  const first = originAtImage(original);
  if (!first || first.nodeName === nodeName) return first && 'near';
  const others = copies.flatMap((copy) => (isWhole(copy) ? (originAtImage(copy) ?? []) : []));
  const here = others.find((one) => one.nodeName === nodeName && one.pool === pool);
  if (here) return here;
  const reachable = [first, ...others].filter((one) => one.nodeName !== nodeName && isReachable(one));
  const current = image.status.origin;
  const kept = reachable.find(({ id, nodeName: at }) => id === current?.id && at === current.nodeName);
  return kept ?? reachable[hashOf(keyOf(image.metadata)) % reachable.length] ?? first;
}

function isWhole(copy: DiskImage): boolean {
  return isTrue(copy.status.conditions, 'Ready') && !isBeingDeleted(copy);
}

function hashOf(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE(0);
}
