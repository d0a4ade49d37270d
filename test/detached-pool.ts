import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Attacher } from '../src/engine/attach/attachment.ts';
import { Compactor } from '../src/engine/disks/compactor.ts';
import type { DiskContext } from '../src/engine/disks/disk-context.ts';
import { Disks } from '../src/engine/disks/disks.ts';
import { Images } from '../src/engine/disks/images.ts';
import type { Checkpoint } from '../src/lib/checkpoint.ts';
import { KeyedLock } from '../src/lib/keyed-lock.ts';
import { loadPool, lockPool } from '../src/store/open.ts';
import type { Pool } from '../src/store/pool.ts';
import type { DiskOptions } from '../src/store/records.ts';
import { recoverDetached } from '../src/store/recover.ts';
import { SpaceGuard, type SpacePolicy } from '../src/store/space.ts';
import type { StoreStep } from '../src/store/steps.ts';
import { silentLogger } from './fakes/silent-logger.ts';

export const thin: DiskOptions = {
  format: 'qcow2',
  preallocation: 'off',
  clusterSizeBytes: null,
  liveSnapshots: false,
};
export const anySize = { requiredBytes: 0, limitBytes: 0 };

/** A pool none of whose disks is ever attached: the store and its operations, with real files. */
export interface DetachedPool {
  directory: string;
  pool: Pool;
  context: DiskContext;
  disks: Disks;
  images: Images;
  space: SpaceGuard;
  compactor: Compactor;
  /** Gives the lock up, as the end of a process does. */
  release: () => Promise<void>;
}

export function temporaryDirectory(): string {
  return mkdtempSync(path.join(tmpdir(), 'lamina-test-'));
}

export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

export async function openDetachedPool(
  directory: string,
  policy: Partial<SpacePolicy> = {},
  checkpoint: Checkpoint<StoreStep> = () => {},
): Promise<DetachedPool> {
  const locked = await lockPool(directory);
  try {
    const pool = await loadPool(locked, { checkpoint, logger: silentLogger });
    await recoverDetached(pool);
    const space = new SpaceGuard(pool, { reservedFraction: 0, overcommit: 1e6, criticalFraction: 0, ...policy });
    const context = {
      pool,
      space,
      attacher: neverAttached,
      locks: new KeyedLock(),
      freezer: noFreezer,
      logger: silentLogger,
    };
    const compactor = new Compactor(context);
    const disks = new Disks(context, compactor.wake);
    const images = new Images(context, compactor.wake);
    return { directory, pool, context, disks, images, space, compactor, release: locked.release };
  } catch (error) {
    await locked.release();
    throw error;
  }
}

const refuse = (): never => {
  throw new Error('nothing is attached in this test');
};

const neverAttached: Attacher = {
  attach: refuse,
  find: async () => null,
  detach: async () => {},
  resize: refuse,
  prepareHead: refuse,
  switchHead: refuse,
  activeHead: async () => null,
  followMerges: refuse,
  daemonDiskIds: async () => [],
};

const noFreezer = { whileFrozen: refuse };

/** Writes `byte` over `lengthBytes` from `offsetBytes` on, into a disk that nobody has open. */
export function writePattern(
  { pool }: DetachedPool,
  diskId: string,
  byte: number,
  offsetBytes: number,
  lengthBytes: number,
): void {
  const head = pool.chainLayer(pool.disk(diskId).head);
  execFileSync('qemu-io', ['-f', head.format, '-c', `write -P ${byte} ${offsetBytes} ${lengthBytes}`, head.path]);
}

/** Fails where a layer's chain does not read as `byte` throughout. */
export function expectPattern(
  { pool }: DetachedPool,
  layer: string,
  byte: number,
  offsetBytes: number,
  lengthBytes: number,
): void {
  const { format, path: file } = pool.chainLayer(layer as never);
  const output = execFileSync(
    'qemu-io',
    ['-r', '-f', format, '-c', `read -P ${byte} ${offsetBytes} ${lengthBytes}`, file],
    { encoding: 'utf8' },
  );
  if (output.includes('Pattern verification failed')) throw new Error(`${file} at ${offsetBytes}: ${output}`);
}
