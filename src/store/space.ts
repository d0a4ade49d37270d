import { open, stat } from 'node:fs/promises';
import { diskSpace } from '../host/disk-space.ts';
import { formatBytes, MiB } from '../lib/bytes.ts';
import { ifErrno, LaminaError } from '../lib/errors.ts';
import type { Pool } from './pool.ts';
import type { DiskOptions } from './records.ts';

/** How much a pool may promise. Fractions are of the file system's size. */
export interface SpacePolicy {
  /** Never used by us. */
  reservedFraction: number;
  /** Virtual sizes promised / usable bytes. */
  overcommit: number;
  /** Below this much free space nothing starts that takes more; where still less is left, what is mounted is paused. */
  criticalFraction: number;
}

export interface PoolSpace {
  totalBytes: number;
  /** Free, less what is reserved. */
  freeBytes: number;
  /** Sum of the sizes of all disks. */
  provisionedBytes: number;
  /** The biggest thin, and the biggest preallocated disk that would be admitted now. */
  thinBytes: number;
  thickBytes: number;
  /** Free space has come below the mark under which nothing starts that takes more, or near it. */
  critical: boolean;
  warning: boolean;
  /** The policy, in bytes of this file system. */
  reservedBytes: number;
  criticalBytes: number;
  overcommit: number;
  /** With less free than this, writes to mounted disks are to wait, until more than that is free. */
  pauseBytes: number;
  resumeBytes: number;
}

/** Free space below this many times the critical mark is short. */
const warningFactor = 3;
/** Writes wait below this part of the critical mark; of a small file system below so much, as it takes a moment to pause. */
const pauseFactor = 0.5;
const leastPauseBytes = 64 * MiB;
const leastPauseFraction = 0.05;

export const ballastBytes = MiB;

/** Decides what the pool takes on; counts what is being made before a record of it exists. */
export class SpaceGuard {
  readonly #pool: Pool;
  readonly #policy: SpacePolicy;
  #pendingBytes = 0;
  #pendingThickBytes = 0;

  constructor(pool: Pool, policy: SpacePolicy) {
    this.#pool = pool;
    this.#policy = policy;
  }

  async space(): Promise<PoolSpace> {
    const { totalBytes, availableBytes } = await diskSpace(this.#pool.layout.root);
    const { overcommit } = this.#policy;
    const reservedBytes = Math.ceil(totalBytes * this.#policy.reservedFraction);
    const criticalBytes = Math.ceil(totalBytes * this.#policy.criticalFraction);
    const usable = totalBytes - reservedBytes;
    const free = Math.max(0, availableBytes - reservedBytes);
    const critical = free < criticalBytes;
    const provisionedBytes = this.#provisioned() + this.#pendingBytes;
    const promise = critical ? 0 : Math.max(0, Math.floor(usable * overcommit - provisionedBytes));
    const thick = Math.max(0, free - criticalBytes - this.#pendingThickBytes);
    return {
      totalBytes,
      freeBytes: free,
      provisionedBytes,
      thinBytes: promise,
      thickBytes: Math.min(promise, thick),
      critical,
      warning: free < criticalBytes * warningFactor,
      reservedBytes,
      criticalBytes,
      overcommit,
      ...pauseMarks(totalBytes, criticalBytes),
    };
  }

  /**
   * Runs `work`, which adds `bytes` of virtual size, if the policy admits it.
   * @throws LaminaError `pool-full`
   */
  async admit<T>(bytes: number, preallocation: DiskOptions['preallocation'], work: () => Promise<T>): Promise<T> {
    const thick = takesSpaceAtOnce(preallocation);
    const space = await this.space();
    const room = thick ? space.thickBytes : space.thinBytes;
    if (space.critical || bytes > room) throw this.#refusal(bytes, room, space);
    this.#pendingBytes += bytes;
    if (thick) this.#pendingThickBytes += bytes;
    try {
      return await work();
    } finally {
      this.#pendingBytes -= bytes;
      if (thick) this.#pendingThickBytes -= bytes;
    }
  }

  /**
   * Asked every now and then by work that takes space as it goes and promises none, such as a download.
   * @throws LaminaError `pool-full` where `bytes` more would leave less than the critical mark
   */
  async assertRoom(bytes: number): Promise<void> {
    const space = await this.space();
    const room = Math.max(0, space.freeBytes - space.totalBytes * this.#policy.criticalFraction);
    if (bytes > room) throw this.#refusal(bytes, Math.floor(room), space);
  }

  #provisioned(): number {
    let sum = 0;
    for (const disk of this.#pool.disks.values()) sum += disk.sizeBytes;
    return sum;
  }

  #refusal(bytes: number, room: number, space: PoolSpace): LaminaError {
    const why = space.critical
      ? `only ${formatBytes(space.freeBytes)} are free, which is below the critical mark`
      : `there is room for ${formatBytes(room)} (${formatBytes(space.provisionedBytes)} are promised, ${formatBytes(space.freeBytes)} are free)`;
    return new LaminaError(
      'pool-full',
      `the pool ${this.#pool.layout.root} does not take ${formatBytes(bytes)} more: ${why}. Delete volumes or snapshots, or add space`,
    );
  }
}

/**
 * Below what free space writes to mounted disks wait, and from what on they go on. Half of what is critical: the rest is
 * for what is on its way. Of small file systems more, but for those whose policy knows no critical mark.
 */
export function pauseMarks(totalBytes: number, criticalBytes: number): Pick<PoolSpace, 'pauseBytes' | 'resumeBytes'> {
  if (criticalBytes === 0) return { pauseBytes: 0, resumeBytes: 0 };
  const least = Math.min(leastPauseBytes, totalBytes * leastPauseFraction);
  const pauseBytes = Math.floor(Math.max(criticalBytes * pauseFactor, least));
  return { pauseBytes, resumeBytes: Math.max(criticalBytes, 2 * pauseBytes) };
}

export function takesSpaceAtOnce(preallocation: DiskOptions['preallocation']): boolean {
  return preallocation === 'falloc' || preallocation === 'full';
}

/** Keeps a small file to give up when the disk is so full that no record can be written; made again when there is room. */
export async function ensureBallast(file: string): Promise<void> {
  const present = await stat(file).catch(ifErrno('ENOENT', null));
  if (present?.size === ballastBytes) return;
  const handle = await open(file, 'w', 0o600);
  try {
    // Random-looking content is not needed: none of the pool's file systems compresses by itself.
    await handle.write(Buffer.alloc(ballastBytes, 0x6c));
    await handle.sync();
  } finally {
    await handle.close();
  }
}
