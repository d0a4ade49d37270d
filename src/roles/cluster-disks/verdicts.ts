import { failureCode } from '../../api/conditions.ts';
import { type Condition, findCondition } from '../../kube/conditions.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { ClusterDiskContext } from './context.ts';
import type { DiskImage, DiskSnapshot } from '../../api/objects.ts';

/** What the node reports in a condition about the object as it is wanted now. Undefined where that is about an earlier state. */
export function currentCondition({ metadata, status }: DiskImage | DiskSnapshot, type: string): Condition | undefined {
  const condition = findCondition(status.conditions, type);
  return condition?.observedGeneration === metadata.generation ? condition : undefined;
}

/** The failure that the node reports in a condition, as the error that it was; undefined where it reports none. */
export function reportedFailure(object: DiskImage | DiskSnapshot, type: string): Error | undefined {
  const condition = currentCondition(object, type);
  if (condition?.status !== 'False') return undefined;
  const code = failureCode(condition.reason);
  if (code) return new LaminaError(code, condition.message);
  // An error that nobody foresaw is none of ours here, either.
  return condition.reason === 'Unexpected' ? new Error(condition.message) : undefined;
}

/** Whether trying again does not help. Of the other failures the node tries again by itself. */
export function isFinal(failure: Error): boolean {
  return !(failure instanceof LaminaError && (failure.kind === 'busy' || failure.kind === 'unavailable'));
}

/** Whether the node of the object is gone for good, as the controller reports it; one that has come back is not. */
export function isNodeGone(
  { caches }: Pick<ClusterDiskContext, 'caches'>,
  { spec, status }: DiskImage | DiskSnapshot,
): boolean {
  const isReported = findCondition(status.conditions, 'Ready')?.reason === 'NodeGone';
  return isReported && !caches.nodes.cache.has(spec.nodeName ?? '');
}

/** Why a node might not do what is asked of it, for people. */
export function silenceOf({ rooms }: Pick<ClusterDiskContext, 'rooms'>, nodeName: string | undefined): string {
  return (nodeName && rooms.obstacleOn(nodeName)) || 'is its node plugin running?';
}

export function isReady({ status }: DiskImage | DiskSnapshot): boolean {
  return findCondition(status.conditions, 'Ready')?.status === 'True';
}
