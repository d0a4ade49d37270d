import { defaultPoolName } from '../api/names.ts';
import type { StandaloneConfig } from '../config/standalone.ts';
import { watchDaemons } from '../engine/supervisor/daemon-watch.ts';
import { Staging } from '../engine/staging/staging.ts';
import { freezeSteps, stagingSteps } from '../engine/staging/staging-steps.ts';
import { engineSteps } from '../engine/attach/steps.ts';
import { ensureSupervisor } from '../engine/supervisor/supervisor-client.ts';
import { untilAborted } from '../lib/abort.ts';
import { listSteps } from '../lib/checkpoint.ts';
import { systemClock } from '../lib/clock.ts';
import { LaminaError } from '../lib/errors.ts';
import { killingCheckpoint } from '../lib/kill-at.ts';
import { imageSteps, storeSteps } from '../store/steps.ts';
import { createLogger } from '../telemetry/log.ts';
import { createStandaloneMetrics, type StandaloneMetrics } from '../telemetry/metrics.ts';
import { LocalDiskService } from './local-disk-service.ts';
import { type LocalPool, type LocalPoolOptions, openLocalPool } from './local-pool.ts';
import { readPool } from './pool-reading.ts';
import { serve } from './serve.ts';

/** A supervisor without daemons ends after this: nothing is left of a plugin that was stopped for good. */
const supervisorIdleSeconds = 5;
/** How long running calls may take to end when the process is told to stop. */
const graceMs = 20_000;

export interface StandaloneOptions extends StandaloneConfig {
  version: string;
  /** The program and its first arguments, to start the supervisor with. */
  program: readonly [string, ...string[]];
}

/** `lamina standalone`: serves one pool on one CSI socket until `stop`. Attached disks stay attached. */
export async function standalone(options: StandaloneOptions, stop: AbortSignal): Promise<number> {
  const { nodeName, version, killAt } = options;
  if (process.getuid?.() !== 0) {
    throw new LaminaError('unsupported', 'standalone attaches and mounts disks, which takes root: run it as root');
  }
  const logger = createLogger(options.logLevel);
  const metrics = createStandaloneMetrics({ version, clock: systemClock, logger });
  const steps = listSteps({ ...storeSteps, ...imageSteps, ...engineSteps, ...stagingSteps, ...freezeSteps });
  const checkpoint = killingCheckpoint(killAt, steps);
  const pool = await openPool(options, { checkpoint, logger, metrics });
  const onDeath = () => metrics.countEngineDeath();
  const watch = watchDaemons({ client: pool.supervisor, logger, onDeath, signal: stop });
  const ready = () => pool.supervisor.listDaemons().then(() => true);
  const { attachments, runDir, pauses } = pool;
  const pausing = pauses.run(stop);
  const node = new Staging({ disks: attachments, nodeName, runDir, checkpoint, logger, pauses });
  const disks = new LocalDiskService(pool.disks, pool.context, nodeName, (id) => node.health(id));
  const served = await serve({
    socket: options.socket,
    version,
    services: { controller: { disks }, node: { node } },
    metrics,
    listen: options.metricsSocket,
    ready,
    clock: systemClock,
    logger,
  });
  await untilAborted(stop);
  logger.info({}, 'stopping; attached disks stay attached');
  await served.csi.stop(graceMs);
  await served.stopHealth();
  await Promise.all([watch, pausing]);
  await pool.compactor.stop();
  await pool.release();
  return 0;
}

async function openPool(
  options: StandaloneOptions,
  { metrics, ...parts }: Pick<LocalPoolOptions, 'checkpoint' | 'logger'> & { metrics: StandaloneMetrics },
): Promise<LocalPool> {
  const { program, nodeName } = options;
  const pool = await openLocalPool({
    ...options,
    ...parts,
    policy: options,
    // The pool has a supervisor of its own, so that two plugins never see each other's daemons.
    supervisor: ({ runDir }) =>
      ensureSupervisor({ runDir, command: program, idleExitSeconds: supervisorIdleSeconds, logger: parts.logger }),
    onFrozen: metrics.observeFreeze,
    onMerged: metrics.observeMerge,
    // Its metrics and its log say so, and the condition of a volume.
    onPaused: () => {},
    longestPauseMs: options.longestPauseSeconds * 1000,
  });
  metrics.readPools(async () => [await readPool(pool, { pool: defaultPoolName, node: nodeName })]);
  metrics.readDaemons(() => pool.supervisor.listDaemons());
  return pool;
}
