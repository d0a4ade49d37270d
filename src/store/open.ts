import { constants, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { poolFilesystem } from '../host/disk-space.ts';
import type { Checkpoint } from '../lib/checkpoint.ts';
import { errnoOf, LaminaError, messageOf } from '../lib/errors.ts';
import { syncDirectory, writeRecord } from '../lib/fs-records.ts';
import type { Logger } from '../lib/logger.ts';
import { unreferencedLayers } from './graph.ts';
import type { Leftover } from './findings.ts';
import { takeOverSize } from './grow-disk.ts';
import { foreignNames, type Inspection, inspectPool, readPoolRecord } from './inspect.ts';
import { PoolLayout } from './layout.ts';
import { exists, listNames, Pool } from './pool.ts';
import { takeLock } from '../host/file-lock.ts';
import { type PoolRecord, recordVersion } from './records.ts';
import { ensureBallast } from './space.ts';
import type { StoreStep } from './steps.ts';

/** A pool that nobody else writes to until `release`, or until this process ends. */
export interface LockedPool {
  layout: PoolLayout;
  record: PoolRecord;
  release: () => Promise<void>;
}

/**
 * Takes a pool's lock, and makes an empty directory a pool.
 *
 * @param assertNew throws where no pool is to be made, as the directory should have one; called before anything is written
 * @throws LaminaError `pool-missing`, `pool-locked`, `pool-foreign`, `pool-unsupported`, `record-corrupt`, `record-version`; what
 *   `assertNew` throws
 */
export async function lockPool(directory: string, assertNew = async (): Promise<void> => {}): Promise<LockedPool> {
  const layout = new PoolLayout(directory);
  await assertUsable(layout);
  if (!(await exists(layout.poolRecord))) await assertNew();
  const release = await takeLock(layout.lockFile, `the pool ${layout.root}`);
  try {
    await initialise(layout);
    return { layout, record: await readPoolRecord(layout), release };
  } catch (error) {
    await release();
    throw error;
  }
}

/**
 * Checks everything in a locked pool, and puts right what a crash left as far as no running disk is concerned (see
 * recover.ts for the rest).
 *
 * @throws LaminaError `record-corrupt`, `record-version`, `layer-corrupt`, `graph-corrupt`, `pool-foreign`; each names
 *   the file and what to do
 */
export async function loadPool(
  { layout }: LockedPool,
  options: { checkpoint: Checkpoint<StoreStep>; logger: Logger },
): Promise<Pool> {
  const inspection = await inspectPool(layout);
  refuseProblems(layout, inspection);
  await emptyTmp(layout);
  await ballast(layout, options.logger);
  const pool = new Pool(layout, inspection.contents, await canReflink(layout), options.checkpoint);
  for (const leftover of inspection.leftovers) {
    options.logger.warn({ ...leftover }, 'putting right what an interrupted operation left');
    await putRight(pool, leftover);
  }
  await followHeads(pool);
  await keepForSetAside(pool, options.logger);
  return pool;
}

/** `ext4`, `xfs` or `btrfs`: what the pool is on. */
export async function filesystemOf({ layout }: Pool): Promise<string> {
  const type = await poolFilesystem(layout.root);
  if (type) return type;
  throw new LaminaError(
    'pool-unsupported',
    `${layout.root} is not on ext4, xfs or btrfs any more: what was mounted there?`,
  );
}

async function assertUsable(layout: PoolLayout): Promise<void> {
  const foreign = await foreignNames(layout);
  if (foreign === undefined) {
    throw new LaminaError(
      'pool-missing',
      `the pool directory ${layout.root} is not there: create it, or mount what holds it`,
    );
  }
  if (!(await poolFilesystem(layout.root))) {
    throw new LaminaError(
      'pool-unsupported',
      `${layout.root} is not on ext4, xfs or btrfs: choose a directory that is`,
    );
  }
  if (foreign.length > 0 && !(await exists(layout.poolRecord))) {
    throw new LaminaError(
      'pool-foreign',
      `${layout.root} is neither empty nor a pool (it holds ${foreign.slice(0, 3).join(', ')}): choose an empty directory`,
    );
  }
}

/** pool.json comes last: with it, all of the directories are there, and one that is not is for the inspection to refuse. */
async function initialise(layout: PoolLayout): Promise<void> {
  const { layers, disks, snapshots, images, incoming, tmp } = layout;
  const isPool = await exists(layout.poolRecord);
  // A pool that was made before there were images has neither `images` nor `incoming`.
  const later = (await exists(incoming)) ? [] : [images, incoming];
  for (const directory of [...(isPool ? later : [layers, disks, snapshots, images, incoming]), tmp]) {
    await mkdir(directory, { mode: 0o700 }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
  }
  if (isPool) return;
  for (const directory of [layers, disks, snapshots, images]) {
    if ((await listNames(directory)).length > 0) {
      throw new LaminaError(
        'pool-foreign',
        `${layout.root} has no pool.json but ${directory} is not empty: put the pool.json back from a backup`,
      );
    }
  }
  const record: PoolRecord = {
    version: recordVersion,
    kind: 'lamina-pool',
    id: randomUUID(),
    createdAt: new Date().toISOString(),
  };
  await writeRecord(layout.poolRecord, record, layout.tmp);
}

function refuseProblems(layout: PoolLayout, { problems }: Inspection): void {
  const [first] = problems;
  if (!first) return;
  const others = problems.length > 1 ? ` (and ${problems.length - 1} more: see 'lamina check ${layout.root}')` : '';
  throw new LaminaError(first.code, first.message + others);
}

async function emptyTmp(layout: PoolLayout): Promise<void> {
  for (const name of await listNames(layout.tmp)) {
    const file = path.join(layout.tmp, name);
    if (file !== layout.selfTest) await rm(file, { recursive: true });
  }
  await syncDirectory(layout.tmp);
}

async function ballast(layout: PoolLayout, logger: Logger): Promise<void> {
  await ensureBallast(layout.ballast).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOSPC') throw error;
    logger.warn({ pool: layout.root, error: messageOf(error) }, 'the pool is full: no ballast');
  });
}

async function canReflink(layout: PoolLayout): Promise<boolean> {
  const from = path.join(layout.tmp, 'reflink-from');
  const to = path.join(layout.tmp, 'reflink-to');
  try {
    await writeFile(from, Buffer.alloc(4096, 1));
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOSYS', 'ENOTTY', 'ENOSPC'].includes(errnoOf(error) ?? ''))
      return false;
    throw error;
  } finally {
    await rm(from, { force: true });
    await rm(to, { force: true });
  }
}

async function putRight(pool: Pool, leftover: Leftover): Promise<void> {
  const layer = pool.layer(leftover.layer);
  switch (leftover.kind) {
    case 'unfinished-merge':
      return rm(leftover.file);
    case 'unsealed':
      // A pending snapshot's layer is sealed when that is finished; all others have been switched away from.
      return isPending(pool, leftover) ? undefined : pool.sealLayer(layer.id);
    case 'merged':
      return pool.putLayer({ ...layer, parent: pool.layer(layer.parent ?? layer.id).parent });
    case 'grown':
      return takeOverSize(pool, layer.id, leftover.sizeBytes ?? 0);
  }
}

function isPending(pool: Pool, leftover: Leftover): boolean {
  return [...pool.snapshots.values()].some((s) => s.layer === leftover.layer && s.state === 'pending');
}

/** A record that was set aside may be restored by hand: until it is gone, what it may have named is kept. */
async function keepForSetAside(pool: Pool, logger: Logger): Promise<void> {
  const setAside = await listNames(pool.layout.setAside);
  if (setAside.length === 0) return;
  const kept = unreferencedLayers(pool.layers, pool.roots());
  pool.pinForGood(kept);
  logger.warn(
    { setAside, layers: kept },
    'damaged records are set aside; layers that nothing names are kept until they are gone',
  );
}

/** Disks whose records were not yet written when their images had grown. */
async function followHeads(pool: Pool): Promise<void> {
  for (const disk of [...pool.disks.values()]) {
    const { virtualSizeBytes } = pool.layer(disk.head);
    if (virtualSizeBytes > disk.sizeBytes) await pool.putDisk({ ...disk, sizeBytes: virtualSizeBytes });
  }
}
