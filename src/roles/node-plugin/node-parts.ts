import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/logger.ts';
import type { NodeMetrics } from '../../telemetry/metrics.ts';
import type { Cluster } from '../cluster.ts';
import type { NodeOptions } from '../node.ts';

/** What a node plugin is made of. */
export interface NodeParts {
  options: NodeOptions;
  cluster: Cluster;
  clock: Clock;
  random: () => number;
  logger: Logger;
  metrics: NodeMetrics;
}
