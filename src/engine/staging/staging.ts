import type { Checkpoint } from '../../lib/checkpoint.ts';
import { KeyedLock } from '../../lib/keyed-lock.ts';
import type { Logger } from '../../lib/logger.ts';
import { type DiskProblem, findProblem } from './disk-health.ts';
import { publish } from './publish.ts';
import { stage } from './stage.ts';
import type {
  DiskAccess,
  DiskStats,
  PublishRequest,
  StageRequest,
  StagingContext,
  WritePause,
} from './staging-port.ts';
import type { StagingStep } from './staging-steps.ts';
import { unpublish, unstage } from './unpublish.ts';
import { expand, stats } from './volume-stats.ts';

export interface StagingOptions {
  disks: DiskAccess;
  nodeName: string;
  runDir: string;
  checkpoint: Checkpoint<StagingStep>;
  logger: Logger;
  pauses: WritePause;
}

/**
 * Makes disks visible at paths of this node. Nothing is remembered: what is attached, mounted and published is asked of
 * the kernel every time, so that a process that was killed goes on where it was. Its shape is csi's NodeService.
 */
export class Staging {
  readonly nodeName: string;
  readonly #context: StagingContext;
  readonly #logger: Logger;
  readonly #locks = new KeyedLock();

  constructor({ disks, nodeName, runDir, checkpoint, logger, pauses }: StagingOptions) {
    this.nodeName = nodeName;
    this.#context = { disks, runDir, checkpoint, pauses };
    this.#logger = logger;
  }

  stage(request: StageRequest): Promise<void> {
    return this.#run(request.diskId, async () => {
      await stage(this.#context, request);
      this.#logger.info({ diskId: request.diskId, path: request.stagingPath }, 'disk is staged');
    });
  }

  unstage(request: { diskId: string; stagingPath: string }): Promise<void> {
    return this.#run(request.diskId, async () => {
      await unstage(this.#context, request);
      this.#logger.info({ diskId: request.diskId, path: request.stagingPath }, 'disk is unstaged');
    });
  }

  publish(request: PublishRequest): Promise<void> {
    return this.#run(request.diskId, () => publish(this.#context, request));
  }

  unpublish(request: { diskId: string; targetPath: string }): Promise<void> {
    return this.#locks.run(request.diskId, () => unpublish(this.#context, request));
  }

  stats(request: { diskId: string; path: string }): Promise<DiskStats> {
    return stats(this.#context, request);
  }

  expand(request: { diskId: string; path: string }): Promise<{ sizeBytes: number }> {
    return this.#run(request.diskId, () => expand(this.#context, request));
  }

  problem(diskId: string): Promise<DiskProblem | null> {
    return findProblem(this.#context, diskId);
  }

  async health(diskId: string): Promise<string | null> {
    return (await this.problem(diskId))?.message ?? null;
  }

  /** What is frozen can neither be unmounted nor grown, and whoever changes owners or labels on it would wait. */
  #run<T>(diskId: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(diskId, () => this.#context.pauses.whileNotPaused(diskId, work));
  }
}
