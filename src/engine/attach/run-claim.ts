import { stat } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { deviceNumber } from '../../host/block-device.ts';
import { takeLock } from '../../host/file-lock.ts';
import { currentBootId } from '../../host/process.ts';
import { LaminaError } from '../../lib/errors.ts';
import { readRecordIfAny, writeRecord } from '../../lib/fs-records.ts';
import { ensureRunDirectory, runDirectory } from '../supervisor/run-directory.ts';
import { selfTestDiskId } from './self-test.ts';
import type { SupervisorClient } from '../supervisor/supervisor-client.ts';

const version = 1;

/** `<runDir>/pool.json`: the directory whose disks are attached, so that a copy of it is told from it. */
const claimSchema = z.strictObject({
  version: z.literal(version),
  bootId: z.string(),
  path: z.string(),
  /** `8:1`, and the inode: neither changes with names and mount namespaces. */
  device: z.string(),
  inode: z.string(),
});
type Claim = z.infer<typeof claimSchema>;

/**
 * Takes the run directory of a pool for this process. A copy of a pool has its id, and so its run directory and the ids of
 * its disks: what is attached of one would be taken for the other's, and written to.
 *
 * @returns a function that gives it up
 * @throws LaminaError `pool-locked` where a process serves another copy of the pool, or disks of one are attached
 */
export async function claimRunDirectory(options: {
  runDir: string;
  poolPath: string;
  /** Of the supervisor that the pool's storage daemons have. */
  client: Pick<SupervisorClient, 'listDaemons'>;
}): Promise<() => Promise<void>> {
  const { runDir, poolPath, client } = options;
  await ensureRunDirectory(runDirectory(runDir));
  const release = await takeLock(path.join(runDir, 'plugin.lock'), `a copy of the pool ${poolPath}, with the same id,`);
  try {
    const file = path.join(runDir, 'pool.json');
    const [before, now] = await Promise.all([readRecordIfAny(file, version, claimSchema), claimOf(poolPath)]);
    if (before && !isSame(before, now)) await assertNoneAttached(before, poolPath, client);
    if (!before || !isSame(before, now)) await writeRecord(file, now, runDir);
    return release;
  } catch (error) {
    await release();
    throw error;
  }
}

async function claimOf(poolPath: string): Promise<Claim> {
  const bootId = await currentBootId();
  const { dev, ino } = await stat(poolPath, { bigint: true });
  return { version, bootId, path: poolPath, device: deviceNumber(dev), inode: String(ino) };
}

function isSame(one: Claim, other: Claim): boolean {
  return one.bootId === other.bootId && one.device === other.device && one.inode === other.inode;
}

async function assertNoneAttached(
  before: Claim,
  poolPath: string,
  client: Pick<SupervisorClient, 'listDaemons'>,
): Promise<void> {
  const daemons = await client.listDaemons();
  // What is dead serves nothing: of a machine that came back without a boot, as a container does, it may be all that is left.
  const alive = daemons.filter(({ diskId, state }) => state !== 'dead' && diskId !== selfTestDiskId);
  const attached = alive.map(({ diskId }) => diskId);
  if (attached.length === 0) return;
  throw new LaminaError(
    'pool-locked',
    `disks of another copy of the pool ${poolPath} are attached, from ${before.path} (${attached.slice(0, 3).join(', ')}): serve that one, and unpublish and unstage them first`,
  );
}
