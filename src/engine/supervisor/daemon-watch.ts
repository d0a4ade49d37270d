import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { SupervisorClient } from './supervisor-client.ts';

const intervalMs = 5000;

export interface DaemonWatchOptions {
  client: Pick<SupervisorClient, 'listDaemons'>;
  logger: Logger;
  /** Called once for every daemon that ended without being stopped. */
  onDeath: (diskId: string) => void;
  signal: AbortSignal;
}

/**
 * Tells once of every storage daemon that died or does not answer any more, until `signal`. Asking also brings a
 * supervisor back that was killed.
 */
export async function watchDaemons({ client, logger, onDeath, signal }: DaemonWatchOptions): Promise<void> {
  let before = new Map<string, string>();
  while (!signal.aborted) {
    try {
      const daemons = await client.listDaemons();
      for (const { diskId, state } of daemons) {
        if (state === 'running' || before.get(diskId) === state) continue;
        logger.error({ diskId, state }, 'the storage daemon of this disk failed: unstage and stage it again');
        if (state === 'dead') onDeath(diskId);
      }
      before = new Map(daemons.map(({ diskId, state }) => [diskId, state]));
    } catch (error) {
      logger.error({ error: messageOf(error) }, 'the storage daemons cannot be watched');
    }
    // Rejects when it is told to stop, which the loop sees.
    await delay(intervalMs, undefined, { signal }).catch(() => {});
  }
}
