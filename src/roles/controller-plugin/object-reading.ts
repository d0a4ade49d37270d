import { type Condition, findCondition } from '../../kube/conditions.ts';
import type { ObjectCache } from '../../kube/cache/object-cache.ts';
import type { KubeObject } from '../../kube/objects.ts';
import type { ObjectReading } from '../../telemetry/object-metrics.ts';

/** An object that says by its condition Ready whether it can be used. */
interface Conditioned extends KubeObject {
  status: { conditions: readonly Condition[] };
}

const statuses = ['True', 'False', 'Unknown'] as const;

/** The objects of a kind as metrics show them: how many there are of each status, and for how long the oldest has it. */
export function readObjects(kind: string, cache: ObjectCache<Conditioned>, now: Date): ObjectReading[] {
  const readings = new Map(statuses.map((ready) => [ready, { kind, ready, count: 0, longestMs: 0 }]));
  for (const { metadata, status } of cache.list()) {
    const condition = findCondition(status.conditions, 'Ready');
    const reading = readings.get(condition?.status ?? 'Unknown');
    if (!reading) continue;
    reading.count++;
    if (reading.ready === 'True') continue;
    // Before anyone has said anything of it, it waits since it was made.
    const sinceMs = Date.parse(condition?.lastTransitionTime ?? metadata.creationTimestamp ?? '');
    reading.longestMs = Math.max(reading.longestMs, now.getTime() - sinceMs || 0);
  }
  return [...readings.values()];
}
