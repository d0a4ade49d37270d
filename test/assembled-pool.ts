import path from 'node:path';
import { ensureSupervisor } from '../src/engine/supervisor/supervisor-client.ts';
import { type LocalPool, openLocalPool } from '../src/roles/local-pool.ts';
import type { Checkpoint } from '../src/lib/checkpoint.ts';
import type { Pool } from '../src/store/pool.ts';
import { silentLogger } from './fakes/silent-logger.ts';

const supervisorCommand = [process.execPath, path.resolve(import.meta.dirname, '../src/main.ts'), 'engine'] as const;

/** All that `lamina standalone` consists of below CSI, in this process, with a real supervisor. */
export interface AssembledPool extends LocalPool {
  pool: Pool;
}

/**
 * Releasing the lock and assembling again is what a restart of the plugin is; daemons and devices stay.
 *
 * @param checkpoint may throw, for an operation that fails there
 */
export async function assemblePool(
  directory: string,
  runDir: string,
  checkpoint: Checkpoint = () => {},
): Promise<AssembledPool> {
  const opened = await openLocalPool({
    pool: directory,
    runDir,
    supervisor: ({ runDir: own }) =>
      ensureSupervisor({ runDir: own, command: supervisorCommand, idleExitSeconds: 5, logger: silentLogger }),
    policy: { reservedFraction: 0, criticalFraction: 0, overcommit: 1e6 },
    checkpoint,
    logger: silentLogger,
    onFrozen: () => {},
    onMerged: () => {},
  });
  return { ...opened, pool: opened.context.pool };
}
