import path from 'node:path';
import { QemuAttacher } from '../engine/attach/attacher.ts';
import { Compactor, type OnMerged } from '../engine/disks/compactor.ts';
import { DeviceFreezer } from '../engine/staging/device-freezer.ts';
import { DiskAttachments } from '../engine/disks/disk-attachments.ts';
import type { DiskContext } from '../engine/disks/disk-context.ts';
import { Disks } from '../engine/disks/disks.ts';
import { Images } from '../engine/disks/images.ts';
import { thawMarked } from '../engine/staging/freeze-marks.ts';
import type { ChosenDataPath } from '../engine/attach/data-path.ts';
import { unallocatedBytes } from '../engine/staging/unallocated.ts';
import { WritePauses } from '../engine/staging/write-pauses.ts';
import { recoverDisks } from '../engine/disks/recover.ts';
import { selectDataPath } from '../engine/attach/self-test.ts';
import type { EngineStep } from '../engine/attach/steps.ts';
import type { FreezeStep } from '../engine/staging/staging-steps.ts';
import type { SupervisorClient } from '../engine/supervisor/supervisor-client.ts';
import { unwrittenBytes } from '../host/unwritten.ts';
import { claimRunDirectory } from '../engine/attach/run-claim.ts';
import type { Checkpoint } from '../lib/checkpoint.ts';
import { systemClock } from '../lib/clock.ts';
import { KeyedLock } from '../lib/keyed-lock.ts';
import type { Logger } from '../lib/logger.ts';
import { loadPool, lockPool } from '../store/open.ts';
import type { Pool } from '../store/pool.ts';
import { SpaceGuard, type SpacePolicy } from '../store/space.ts';
import type { StoreStep } from '../store/steps.ts';

export interface LocalPoolOptions {
  pool: string;
  /** As lockPool's: by whom it is known whether there was a pool before; anybody may make one unless given. */
  assertNew?: () => Promise<void>;
  /** Where run directories are; each pool has one of its own. */
  runDir: string;
  /** Finds, or starts, the supervisor of the pool's storage daemons. */
  supervisor: (pool: { id: string; runDir: string }) => Promise<SupervisorClient>;
  policy: SpacePolicy;
  checkpoint: Checkpoint<StoreStep | EngineStep | FreezeStep>;
  logger: Logger;
  onFrozen: (durationMs: number) => void;
  onMerged: OnMerged;
  /** Told of a disk whose writes wait now because the pool is nearly full, or go on. */
  onPaused: (diskId: string) => void;
  /** How long they wait for room at most; 0 for not at all. */
  longestPauseMs: number;
}

/** The pool of this machine, with its disks found again and everything that was interrupted finished or undone. */
export interface LocalPool {
  context: DiskContext;
  disks: Disks;
  images: Images;
  attachments: DiskAttachments;
  compactor: Compactor;
  pauses: WritePauses;
  /** How disks are attached. */
  dataPath: ChosenDataPath;
  supervisor: SupervisorClient;
  runDir: string;
  /** Gives the pool's lock up. Attached disks stay attached. */
  release: () => Promise<void>;
}

/** @throws LaminaError as lockPool, loadPool, `supervisor`, claimRunDirectory and selectDataPath do; the pool's lock is given up then */
export async function openLocalPool(options: LocalPoolOptions): Promise<LocalPool> {
  const locked = await lockPool(options.pool, options.assertNew);
  let giveUp = locked.release;
  try {
    const { id } = locked.record;
    const runDir = path.join(path.resolve(options.runDir), id.slice(0, 8));
    // Before anything that could fail: somebody's file system may stand still.
    await thawMarked(runDir, options.logger);
    const pool = await loadPool(locked, options);
    const client = await options.supervisor({ id, runDir });
    const unclaim = await claimRunDirectory({ runDir, poolPath: pool.layout.root, client });
    giveUp = () => unclaim().finally(locked.release);
    return await assemble(options, { pool, client, runDir, release: giveUp });
  } catch (error) {
    await giveUp();
    throw error;
  }
}

interface Claimed {
  pool: Pool;
  client: SupervisorClient;
  runDir: string;
  release: () => Promise<void>;
}

async function assemble(options: LocalPoolOptions, { pool, client, runDir, release }: Claimed): Promise<LocalPool> {
  const { checkpoint, logger, onFrozen, onMerged } = options;
  const dataPath = await selectDataPath({ client, runDir, poolPath: pool.layout.root, logger });
  const freezer = new DeviceFreezer({ runDir, checkpoint, onFrozen });
  const context: DiskContext = {
    pool,
    space: new SpaceGuard(pool, options.policy),
    attacher: new QemuAttacher({ client, dataPath, checkpoint }),
    locks: new KeyedLock(),
    freezer,
    logger,
  };
  await recoverDisks(context);
  const compactor = new Compactor(context, onMerged);
  compactor.wake();
  const disks = new Disks(context, compactor.wake);
  const images = new Images(context, compactor.wake);
  const attachments = new DiskAttachments(context, compactor.wake);
  return {
    context,
    disks,
    images,
    attachments,
    compactor,
    pauses: createPauses(options, { context, freezer, attachments }),
    dataPath,
    supervisor: client,
    runDir,
    release,
  };
}

function createPauses(
  { longestPauseMs, onPaused }: LocalPoolOptions,
  { context, freezer, attachments }: { context: DiskContext; freezer: DeviceFreezer; attachments: DiskAttachments },
): WritePauses {
  const attachment = (diskId: string) => attachments.attachment(diskId);
  return new WritePauses({
    context,
    freezer,
    attachment,
    unwrittenBytes,
    unallocatedBytes: () => unallocatedBytes(context.pool, attachment),
    longestMs: longestPauseMs,
    onChange: onPaused,
    clock: systemClock,
  });
}
