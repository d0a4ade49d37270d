import { chmod, constants, copyFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { diskSpace } from '../host/disk-space.ts';
import { LaminaError } from '../lib/errors.ts';
import { syncDirectory, syncFile } from '../lib/fs-records.ts';
import { checkImage, rebaseImage } from '../qemu/qemu-img.ts';
import { childrenOf } from './graph.ts';
import { assertNotCutOff } from './inspect-layer.ts';
import { backingPath, mergeName } from './layout.ts';
import type { Pool } from './pool.ts';
import type { DiskId, LayerId, LayerRecord } from './records.ts';

/** Two neighbours of a chain that can become one: nothing names `lower`, and `upper` is its only child. */
export interface Merge {
  lower: LayerId;
  upper: LayerId;
  /** Bytes that have to be copied at most. */
  costBytes: number;
}

/**
 * A lower layer is worth rewriting up to this many times the size of what is merged into it, as in an LSM tree. So layers
 * that nothing names are few between two that are named: each is more than four times as big as the next.
 */
const worthwhileFactor = 4;

/** The cheapest merge worth doing now, or null. Small neighbours first; a big base is not rewritten for a small gain. */
export async function nextMerge(pool: Pool): Promise<Merge | null> {
  const candidates = await mergeCandidates(pool);
  const worthwhile = candidates.filter(({ lowerBytes, upperBytes }) => lowerBytes <= upperBytes * worthwhileFactor);
  worthwhile.sort((a, b) => a.merge.costBytes - b.merge.costBytes);
  return worthwhile[0]?.merge ?? null;
}

async function mergeCandidates(pool: Pool) {
  const children = childrenOf(pool.layers);
  const roots = new Set(pool.roots());
  const found: { merge: Merge; lowerBytes: number; upperBytes: number }[] = [];
  for (const lower of [...pool.layers.values()]) {
    const [only, ...others] = children.get(lower.id) ?? [];
    const upper = only && others.length === 0 ? pool.layers.get(only) : undefined;
    if (!upper?.sealed || !lower.sealed || roots.has(lower.id)) continue;
    const [lowerBytes, upperBytes] = await Promise.all([allocatedBytes(pool, lower), allocatedBytes(pool, upper)]);
    found.push({
      merge: { lower: lower.id, upper: upper.id, costBytes: lowerBytes + upperBytes },
      lowerBytes,
      upperBytes,
    });
  }
  return found;
}

async function allocatedBytes(pool: Pool, layer: LayerRecord): Promise<number> {
  return (await stat(pool.layout.layerData(layer.id, layer.format))).blocks * 512;
}

/**
 * Runs `work`, which exchanges the files of some layers, while none of `disks`, which are attached with these open, is
 * attached, detached or snapshotted; afterwards has their daemons follow where it was done. They go on with the files that
 * they have open until then, which hold the same.
 */
export type HoldAttached = (disks: DiskId[], work: () => Promise<boolean>) => Promise<boolean>;

/**
 * Merges `lower` into `upper` beside both, and puts the result in upper's place: whatever refers to upper stays as it
 * is. Gives up, leaving all as it was, where a disk that uses them comes to be attached meanwhile.
 *
 * @param signal ends it where that takes long; all is as it was then
 * @returns whether it was done.
 * @throws LaminaError `pool-full` where there is no room for the copy
 */
export async function mergeLayers(
  pool: Pool,
  merge: Merge,
  { hold, signal }: { hold: HoldAttached; signal: AbortSignal },
): Promise<boolean> {
  const { lower, upper } = merge;
  const { availableBytes } = await diskSpace(pool.layout.root);
  if (merge.costBytes > availableBytes / 2) {
    throw new LaminaError(
      'pool-full',
      `merging layers ${lower} and ${upper} needs up to ${merge.costBytes} bytes more`,
    );
  }
  const merged = path.join(pool.layout.layer(upper), mergeName);
  try {
    return await pool.withPins([upper], async () => {
      // Deleted, since it was chosen.
      if (pool.layers.get(upper)?.parent !== lower) return false;
      await buildMerged(pool, merge, merged, signal);
      const attached = pool.attachedWith(upper);
      return hold(attached, () => swapIn(pool, merge, merged, attached));
    });
  } finally {
    await rm(merged, { force: true });
    await pool.collect();
  }
}

async function buildMerged(pool: Pool, { lower, upper }: Merge, merged: string, signal: AbortSignal): Promise<void> {
  // What is cut off of it would be merged as zeroes, and nobody could tell afterwards.
  await assertNotCutOff(pool.chainLayer(lower).path, pool.layer(lower));
  await copyFile(pool.chainLayer(upper).path, merged, constants.COPYFILE_FICLONE);
  await chmod(merged, 0o600);
  pool.checkpoint('compact/copy-made');
  const base = pool.layer(lower).parent;
  const format = base && pool.layer(base).format;
  const backing = base && format ? { file: backingPath(base, format), format } : null;
  await rebaseImage({ file: merged, backing, signal });
  pool.checkpoint('compact/merged');
  const check = await checkImage(merged);
  if (check.result !== 'clean') {
    throw new LaminaError('layer-corrupt', `merging layer ${lower} into ${upper} gave a damaged image; both are kept`);
  }
  await chmod(merged, 0o444);
  await syncFile(merged);
  await syncDirectory(path.dirname(merged));
  pool.checkpoint('compact/merge-synced');
}

async function swapIn(pool: Pool, { lower, upper }: Merge, merged: string, held: DiskId[]): Promise<boolean> {
  const record = pool.layer(upper);
  const others = (childrenOf(pool.layers).get(lower) ?? []).filter((child) => child !== upper);
  const named = pool.roots().includes(lower);
  if (others.length > 0 || named) return false;
  return pool.whileNothingOpens(async () => {
    if (!pool.attachedWith(upper).every((id) => held.includes(id))) return false;
    await rename(merged, pool.layout.layerData(upper, record.format));
    await syncDirectory(pool.layout.layer(upper));
    pool.checkpoint('compact/swapped');
    await pool.putLayer({ ...record, parent: pool.layer(lower).parent });
    pool.checkpoint('compact/upper-recorded');
    return true;
  });
}
