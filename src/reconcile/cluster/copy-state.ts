import { failureCode } from '../../api/conditions.ts';
import type { DiskImage } from '../../api/objects.ts';
import { findCondition } from '../../kube/conditions.ts';
import { isBeingDeleted } from '../../kube/objects.ts';

/** How the copy on a node is. */
export type CopyState =
  | { kind: 'ready' }
  /** Its node makes it. */
  | { kind: 'working'; message: string }
  /** Nothing is done for it at the moment. */
  | { kind: 'waiting'; message: string }
  /** It was made, and its pool does not hold it any more. */
  | { kind: 'lost'; message: string }
  /** Somebody has to do something about it. */
  | { kind: 'failed'; reason: string; message: string };

/** Progress is told in steps of so many percent, so that the original is not written all the time. */
const stepPercent = 10;

/** @param obstacle what is known to stand in the way of work on its node, for people; null for nothing */
export function stateOfCopy(copy: DiskImage, obstacle: string | null): CopyState {
  if (isBeingDeleted(copy)) return { kind: 'waiting', message: 'An earlier copy is being deleted.' };
  const { conditions, progress } = copy.status;
  const ready = findCondition(conditions, 'Ready');
  if (ready?.status === 'True') return { kind: 'ready' };
  const { reason = '', message = 'Its node has not begun with it.' } = ready ?? {};
  if (reason === 'Lost') return { kind: 'lost', message: 'The pool does not hold it any more; it is made again.' };
  if (failureCode(reason) !== undefined) return { kind: 'failed', reason, message };
  if (obstacle !== null) return { kind: 'waiting', message: `Nothing is done there: ${obstacle}.` };
  return { kind: 'working', message: progress === undefined ? message : `Fetching: ${coarse(progress)}.` };
}

function coarse(progress: string): string {
  return `${Math.floor(Number.parseInt(progress, 10) / stepPercent) * stepPercent}%`;
}
