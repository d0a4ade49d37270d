import path from 'node:path';
import type { NodeConfig } from '../config/node.ts';
import { runDirectory } from '../engine/supervisor/run-directory.ts';
import { SupervisorClient } from '../engine/supervisor/supervisor-client.ts';
import { TokenReview } from '../kube/client/token-review.ts';
import { systemClock as clock } from '../lib/clock.ts';
import { LaminaError } from '../lib/errors.ts';
import { createLogger } from '../telemetry/log.ts';
import { createNodeMetrics } from '../telemetry/metrics.ts';
import { connectCluster } from './cluster.ts';
import { NodePlugin } from './node-plugin/node-plugin.ts';
import { serve } from './serve.ts';

/** How long running calls may take to end when the process is told to stop. */
const graceMs = 20_000;

export interface NodeOptions extends NodeConfig {
  version: string;
}

/**
 * `lamina node`: serves the pools of this node to kubelet, and makes what the objects of this node ask for, until `stop`.
 * Attached disks stay attached.
 */
export async function node(options: NodeOptions, stop: AbortSignal): Promise<number> {
  if (process.getuid?.() !== 0) {
    throw new LaminaError('unsupported', 'a node attaches and mounts disks, which takes root: run it as root');
  }
  const logger = createLogger(options.logLevel);
  const metrics = createNodeMetrics({ version: options.version, clock, logger });
  const cluster = await connectCluster(options, `lamina/${options.version} (node)`, clock);
  const plugin = new NodePlugin({ options, cluster, clock, random: Math.random, logger, metrics });
  const engine = new SupervisorClient(runDirectory(path.join(options.runDir, 'engine')), { revive: null, scope: '' });
  metrics.readPools(() => plugin.readPools());
  metrics.readDaemons(() => engine.listDaemons());
  const served = await serve({
    socket: options.socket,
    version: options.version,
    services: { node: { node: plugin.service } },
    metrics,
    listen: options.metricsListen,
    ready: async () => plugin.isReady,
    reviews: new TokenReview({ client: cluster.client, clock }),
    clock,
    logger,
  });
  await plugin.run(stop, async () => {
    logger.info({}, 'stopping; attached disks stay attached');
    await served.csi.stop(graceMs);
  });
  await served.stopHealth();
  cluster.client.close();
  return 0;
}
