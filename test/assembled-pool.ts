import path from 'node:path';
import { expect } from 'vitest';
import { ensureSupervisor } from '../src/engine/supervisor/supervisor-client.ts';
import { type LocalPool, openLocalPool } from '../src/roles/local-pool.ts';
import type { Checkpoint } from '../src/lib/checkpoint.ts';
import type { Pool } from '../src/store/pool.ts';
import { silentLogger } from './fakes/silent-logger.ts';
import { clearBelow, leaksOfStopped } from './leaks.ts';

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
    onPaused: () => {},
    longestPauseMs: 0,
  });
  return { ...opened, pool: opened.context.pool };
}

/** Detaches all disks of a pool, and removes the directory that it was made in, after a look that nothing else was left. */
export async function endPool(lamina: AssembledPool, directory: string): Promise<void> {
  try {
    for (const { id } of lamina.pool.disks.values()) await lamina.attachments.detach(id);
    await lamina.compactor.settled();
    await lamina.release();
    expect(await leaksOfStopped(directory)).toEqual([]);
  } finally {
    await clearBelow(directory);
  }
}
