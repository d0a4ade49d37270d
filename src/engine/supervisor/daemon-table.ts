import { readdir } from 'node:fs/promises';
import { currentBootId } from '../../host/process.ts';
import { isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import { KeyedLock } from '../../lib/keyed-lock.ts';
import type { Logger } from '../../lib/logger.ts';
import { Daemon, type DaemonContext } from './daemon.ts';
import { readDaemonSpec, removeDaemonFiles } from './daemon-files.ts';
import { daemonIdOf, daemonIdPattern, type RunDirectory } from './run-directory.ts';
import type { DaemonReport, StartRequest } from './supervisor-protocol.ts';

export interface DaemonTableOptions {
  run: RunDirectory;
  healthTimeoutMs: number;
  logger: Logger;
}

/** The daemons of a run directory. */
export class DaemonTable {
  readonly #options: DaemonTableOptions;
  readonly #daemons = new Map<string, Daemon>();
  readonly #locks = new KeyedLock();
  readonly #bootId: string;

  private constructor(options: DaemonTableOptions, bootId: string) {
    this.#options = options;
    this.#bootId = bootId;
  }

  /** Finds the daemons of earlier supervisors again, and removes what is left of starts and stops that were cut off. */
  static async open(options: DaemonTableOptions): Promise<DaemonTable> {
    const bootId = await currentBootId();
    const table = new DaemonTable(options, bootId);
    for (const name of await readdir(options.run.daemons)) {
      if (daemonIdPattern.test(name)) await table.#adopt(name);
    }
    return table;
  }

  get size(): number {
    return this.#daemons.size;
  }

  list(): Promise<DaemonReport[]> {
    return Promise.all([...this.#daemons.values()].map((daemon) => daemon.report()));
  }

  /** Idempotent: a daemon that runs is left as it is. @throws LaminaError `engine-dead` where remains must be stopped first. */
  start(id: string, request: StartRequest): Promise<DaemonReport> {
    if (id !== daemonIdOf(request.diskId)) {
      throw new LaminaError('invalid-parameter', `daemon id ${id} does not belong to disk ${request.diskId}`);
    }
    return this.#locks.run(id, async () => {
      const present = await this.#daemons.get(id)?.report();
      if (present?.state === 'dead') {
        throw new LaminaError(
          'engine-dead',
          `the storage daemon of ${present.diskId} died: detach the disk, then attach it`,
        );
      }
      if (present) return present;
      const daemon = await Daemon.start(this.#contextOf(id), { ...request, bootId: this.#bootId });
      this.#daemons.set(id, daemon);
      const report = await daemon.report();
      this.#options.logger.info({ diskId: request.diskId, pid: report.pid }, 'storage daemon started');
      return report;
    });
  }

  /** Idempotent. */
  stop(id: string): Promise<void> {
    return this.#locks.run(id, async () => {
      const daemon = this.#daemons.get(id);
      if (!daemon) return;
      const { diskId } = await daemon.report();
      await daemon.stop();
      this.#daemons.delete(id);
      this.#options.logger.info({ diskId }, 'storage daemon stopped');
    });
  }

  async checkAll(): Promise<void> {
    await Promise.all([...this.#daemons.values()].map((daemon) => daemon.check()));
  }

  /** Lets go of all daemons; they go on. */
  release(): void {
    for (const daemon of this.#daemons.values()) daemon.release();
  }

  #contextOf(id: string): DaemonContext {
    const { run, healthTimeoutMs, logger } = this.#options;
    return { id, paths: run.daemon(id), healthTimeoutMs, logger };
  }

  async #adopt(id: string): Promise<void> {
    const context = this.#contextOf(id);
    try {
      const spec = await readDaemonSpec(context.paths);
      // After a reboot there is neither process nor mount: only files, which mean nothing any more.
      const daemon = spec?.bootId === this.#bootId ? await Daemon.adopt(context, spec) : null;
      if (!daemon) return await removeDaemonFiles(context.paths);
      this.#daemons.set(id, daemon);
      const report = await daemon.report();
      this.#options.logger.info(
        { diskId: report.diskId, pid: report.pid, state: report.state },
        'storage daemon found',
      );
    } catch (error) {
      if (!isLaminaError(error)) throw error;
      this.#options.logger.error({ daemonId: id, error: messageOf(error) }, 'daemon directory left alone');
    }
  }
}
