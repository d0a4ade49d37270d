import type { OnMerged } from '../../engine/disks/compactor.ts';
import { watchDaemons } from '../../engine/supervisor/daemon-watch.ts';
import { runDirectory } from '../../engine/supervisor/run-directory.ts';
import { Staging } from '../../engine/staging/staging.ts';
import type { FreezeStep, StagingStep } from '../../engine/staging/staging-steps.ts';
import type { EngineStep } from '../../engine/attach/steps.ts';
import { SupervisorClient } from '../../engine/supervisor/supervisor-client.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Logger } from '../../lib/logger.ts';
import type { PoolPlace, ServedPool } from '../../reconcile/node/node-pools.ts';
import type { SpacePolicy } from '../../store/space.ts';
import type { StoreStep } from '../../store/steps.ts';
import { openLocalPool } from '../local-pool.ts';

export interface NodePoolOptions {
  nodeName: string;
  runDir: string;
  /** The run directory of the node's engine. */
  engineDir: string;
  policy: SpacePolicy;
  checkpoint: Checkpoint<StoreStep | EngineStep | FreezeStep | StagingStep>;
  logger: Logger;
  onFrozen: (durationMs: number) => void;
  onMerged: OnMerged;
  onPaused: (diskId: string) => void;
  longestPauseMs: number;
  /** Called once for every storage daemon that ended without being stopped. */
  onDaemonDeath: (diskId: string) => void;
  /** Throws where a pool that is not there is not to be made anew. */
  assertNew: (place: PoolPlace, signal: AbortSignal) => Promise<void>;
}

/** Opens a pool of a node, whose storage daemons the node's engine runs. @throws LaminaError as openLocalPool */
export async function openNodePool(
  place: PoolPlace,
  options: NodePoolOptions,
  signal: AbortSignal,
): Promise<ServedPool> {
  const { nodeName, checkpoint, logger, onDaemonDeath } = options;
  const engine = runDirectory(options.engineDir);
  const supervisor = async ({ id }: { id: string }) => {
    const client = new SupervisorClient(engine, { revive: null, scope: id.slice(0, 8) });
    await client.listDaemons();
    return client;
  };
  const assertNew = () => options.assertNew(place, signal);
  const pool = await openLocalPool({ ...options, pool: place.directory, supervisor, assertNew });
  const { context, disks, images, attachments, dataPath, compactor, pauses, runDir, release } = pool;
  const staging = new Staging({ disks: attachments, nodeName, runDir, checkpoint, logger, pauses });
  const stop = new AbortController();
  const pausing = pauses.run(stop.signal);
  const watch = watchDaemons({ client: pool.supervisor, logger, onDeath: onDaemonDeath, signal: stop.signal });
  const close = async () => {
    stop.abort();
    await Promise.all([watch, pausing]);
    await compactor.stop();
    await release();
  };
  return { onNamesGone: compactor.wake, context, disks, images, attachments, staging, pauses, dataPath, close };
}
