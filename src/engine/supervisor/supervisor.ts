import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import type { Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../lib/logger.ts';
import { takeLock } from '../../host/file-lock.ts';
import { keepLogShort } from './daemon-files.ts';
import { DaemonTable } from './daemon-table.ts';
import { ensureRunDirectory, runDirectory } from './run-directory.ts';
import { createSupervisorServer } from './supervisor-server.ts';

export interface SupervisorOptions {
  /** Absolute; made where it is missing. */
  runDir: string;
  /** Ends after this long without daemons and requests; null: never. */
  idleExitSeconds: number | null;
  logger: Logger;
  /** Ends the supervisor. Daemons go on. */
  signal: AbortSignal;
  healthIntervalMs?: number;
  /** A daemon that does not answer within this is reported unresponsive. */
  healthTimeoutMs?: number;
}

/**
 * Serves a run directory's daemons until `signal` or until idle.
 * @throws LaminaError `pool-locked` where another supervisor does already.
 */
export async function runSupervisor(options: SupervisorOptions): Promise<void> {
  const { logger, signal, healthIntervalMs = 2000, healthTimeoutMs = 10_000 } = options;
  const run = runDirectory(options.runDir);
  await ensureRunDirectory(run);
  const unlock = await takeLock(run.lock, `run directory ${run.root}`);
  const table = await DaemonTable.open({ run, healthTimeoutMs, logger });
  const server = createSupervisorServer(table, logger);
  try {
    await listen(server, run.socket);
    const idle = new IdleWatch(table, server, options.idleExitSeconds);
    logger.info({ runDir: run.root, daemons: table.size }, 'supervisor ready');
    while (!signal.aborted && !idle.isOver()) {
      await table.checkAll();
      await keepLogShort(run.log);
      await delay(healthIntervalMs, undefined, { signal }).catch(() => {});
    }
    logger.info({ runDir: run.root, daemons: table.size, aborted: signal.aborted }, 'supervisor ends');
  } finally {
    table.release();
    await close(server);
    await unlock();
  }
}

/** Mode 0600 from the first moment: whoever can connect can start daemons. */
async function listen(server: Server, socketPath: string): Promise<void> {
  // The lock is ours, so the socket is a dead supervisor's.
  await rm(socketPath, { force: true });
  const umask = process.umask(0o177);
  try {
    server.listen(socketPath);
    await once(server, 'listening');
  } finally {
    process.umask(umask);
  }
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  await closed;
}

class IdleWatch {
  readonly #table: DaemonTable;
  readonly #limitMs: number;
  #openRequests = 0;
  #busyAt = performance.now();

  constructor(table: DaemonTable, server: Server, idleExitSeconds: number | null) {
    this.#table = table;
    this.#limitMs = idleExitSeconds === null ? Number.POSITIVE_INFINITY : idleExitSeconds * 1000;
    server.on('connection', (socket) => {
      this.#openRequests++;
      socket.on('close', () => {
        this.#openRequests--;
        this.#busyAt = performance.now();
      });
    });
  }

  isOver(): boolean {
    const now = performance.now();
    if (this.#table.size > 0 || this.#openRequests > 0) this.#busyAt = now;
    return now - this.#busyAt >= this.#limitMs;
  }
}
