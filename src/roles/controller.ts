import type { ControllerConfig } from '../config/controller.ts';
import { assertInstalledSchema } from '../kube/installed-schema.ts';
import { TokenReview } from '../kube/client/token-review.ts';
import { listSteps } from '../lib/checkpoint.ts';
import { systemClock as clock } from '../lib/clock.ts';
import { killingCheckpoint } from '../lib/kill-at.ts';
import type { Logger } from '../lib/logger.ts';
import { controllerSteps } from '../reconcile/cluster/controller-steps.ts';
import { createLogger } from '../telemetry/log.ts';
import { type ControllerMetrics, createControllerMetrics } from '../telemetry/metrics.ts';
import { type Cluster, connectCluster } from './cluster.ts';
import { ControllerPlugin } from './controller-plugin/controller-plugin.ts';
import { serve } from './serve.ts';

/** How long running calls may take to end when the process is told to stop: they are told to, too. */
const graceMs = 10_000;

export interface ControllerOptions extends ControllerConfig {
  version: string;
}

/**
 * `lamina controller`: serves CSI's Controller service to the sidecars, and does what one of all controllers does while
 * it is elected, until `stop`.
 *
 * @returns the exit code: 0, or 1 where an election was lost
 */
export async function controller(options: ControllerOptions, stop: AbortSignal): Promise<number> {
  const logger = createLogger(options.logLevel);
  const metrics = createControllerMetrics({ version: options.version, clock, logger });
  const cluster = await connectCluster(options, `lamina/${options.version} (controller)`, clock);
  try {
    await assertInstalledSchema({ client: cluster.client, clock, random: Math.random, logger }, stop);
  } catch (error) {
    if (stop.aborted) return 0;
    throw error;
  }
  const plugin = createPlugin(options, cluster, { logger, metrics });
  metrics.readObjects(() => plugin.readObjects());
  const served = await serve({
    socket: options.socket,
    version: options.version,
    services: { controller: { disks: plugin.service } },
    metrics,
    listen: options.metricsListen,
    ready: async () => plugin.isReady,
    reviews: new TokenReview({ client: cluster.client, clock }),
    clock,
    logger,
  });
  const outcome = await plugin.run(stop, async () => {
    logger.info({}, 'stopping');
    await served.csi.stop(graceMs);
  });
  await served.stopHealth();
  cluster.client.close();
  return outcome === 'lost' ? 1 : 0;
}

function createPlugin(
  { identity, orphanGraceSeconds, killAt }: ControllerOptions,
  cluster: Cluster,
  { logger, metrics }: { logger: Logger; metrics: ControllerMetrics },
) {
  return new ControllerPlugin({
    cluster,
    identity,
    orphanGraceMs: orphanGraceSeconds * 1000,
    checkpoint: killingCheckpoint(killAt, listSteps(controllerSteps)),
    clock,
    random: Math.random,
    logger,
    observer: metrics,
  });
}
