import { mkdir, rename } from 'node:fs/promises';
import path from 'node:path';
import { isLaminaError, LaminaError } from '../lib/errors.ts';
import { syncDirectory } from '../lib/fs-records.ts';
import type { Logger } from '../lib/logger.ts';
import { checkImage, isImageInUse } from '../qemu/qemu-img.ts';
import { namedLayers, unreferencedLayers } from './graph.ts';
import type { Problem } from './findings.ts';
import { type Inspection, inspectPool } from './inspect.ts';
import { PoolLayout } from './layout.ts';
import { loadPool, lockPool } from './open.ts';
import { listNames, type Pool } from './pool.ts';
import { isLocked, takeLock } from '../host/file-lock.ts';
import { recoverDetached } from './recover.ts';

/** What a check found. Exit codes as of fsck(8): see `exitCode`. */
export interface CheckReport {
  pool: string;
  /** Whether a plugin was serving the pool meanwhile. */
  served: boolean;
  layers: number;
  disks: number;
  snapshots: number;
  images: number;
  /** Data or references that are damaged. */
  problems: Problem[];
  /** What an interrupted operation left; the next start, or `--repair`, clears it up. */
  leftovers: string[];
  /** Downloads that are not complete. They are gone on with, or removed with the image that they are for. */
  incoming: string[];
  /** What somebody put beside a layer. Nobody reads it, and it is left alone. */
  foreign: string[];
  /** What `--repair` did. */
  repaired: string[];
}

/** 0: clean; 1: all repaired; 4: problems remain. */
export function exitCode(report: CheckReport): 0 | 1 | 4 {
  if (report.problems.length > 0 || (report.leftovers.length > 0 && !report.served)) return 4;
  return report.repaired.length > 0 ? 1 : 0;
}

/**
 * Checks records against files against QCOW2 headers, and every image's own metadata. Changes nothing.
 * @param progress called with the image being checked
 */
export async function checkPool(directory: string, progress: (file: string) => void): Promise<CheckReport> {
  const layout = new PoolLayout(directory);
  const served = await isLocked(layout.lockFile);
  const inspection = served ? await steadyInspection(layout) : await inspectPool(layout);
  const { layers, disks, snapshots, images } = inspection.contents;
  const problems = [...inspection.problems, ...(await checkImages(layout, inspection, progress))];
  const leftovers = await listLeftovers(layout, inspection);
  const counts = { layers: layers.size, disks: disks.size, snapshots: snapshots.size, images: images.size };
  const incoming = await listNames(layout.incoming);
  const { foreign } = inspection;
  return { pool: layout.root, served, ...counts, problems, leftovers, incoming, foreign, repaired: [] };
}

/** In a served pool an operation may be half-way: only what two looks in a row find is a problem. */
async function steadyInspection(layout: PoolLayout): Promise<Inspection> {
  let before = await inspectPool(layout);
  for (let look = 0; look < 5 && before.problems.length > 0; look++) {
    const next = await inspectPool(layout);
    const known = new Set(before.problems.map(({ message }) => message));
    next.problems = next.problems.filter(({ message }) => known.has(message));
    before = next;
  }
  return before;
}

async function checkImages(layout: PoolLayout, { contents, problems }: Inspection, progress: (file: string) => void) {
  const found: Problem[] = [];
  const known = new Set(problems.map(({ file }) => file));
  for (const layer of contents.layers.values()) {
    const file = layout.layerData(layer.id, layer.format);
    if (layer.format !== 'qcow2' || known.has(file)) continue;
    progress(file);
    try {
      const { result, corruptions } = await checkImage(file);
      if (result !== 'corrupt') continue;
      found.push({
        code: 'layer-corrupt',
        file,
        message: `${file} has ${corruptions} corruptions: restore it from a backup`,
      });
    } catch (error) {
      if (!isLaminaError(error)) throw error;
      found.push({ code: error.code, file, message: error.message });
    }
  }
  return found;
}

async function listLeftovers(layout: PoolLayout, { contents, leftovers }: Inspection): Promise<string[]> {
  const { layers, snapshots } = contents;
  const pending = [...snapshots.values()].filter(({ state, transient }) => state === 'pending' || transient);
  return [
    ...(await listNames(layout.tmp)).map((name) => `${path.join(layout.tmp, name)}: unfinished work`),
    ...leftovers.map(({ file, kind }) => `${file}: ${kind}`),
    ...unreferencedLayers(layers, namedLayers(contents)).map((id) => `${layout.layer(id)}: nothing names this layer`),
    ...pending.map(({ id }) => `${layout.snapshot(id)}: unfinished snapshot`),
  ];
}

/**
 * Repairs what can be repaired without guessing: finishes or undoes interrupted operations, gives lost clusters back,
 * and takes damaged records of disks, snapshots and images out of service (`set-aside/`). Layers that such a record might have named
 * are kept as long as it lies there; damaged images are never touched.
 */
export async function repairPool(
  directory: string,
  logger: Logger,
  progress: (file: string) => void,
): Promise<CheckReport> {
  const layout = new PoolLayout(directory);
  const before = await checkPool(directory, progress);
  const repaired = await setAsideDamaged(layout, before.problems);
  if (repaired.length === 0 && before.problems.length === 0) {
    const locked = await lockPool(directory);
    try {
      const pool = await loadPool(locked, { checkpoint: () => {}, logger });
      await assertNothingRuns(pool);
      await recoverDetached(pool);
      repaired.push(...before.leftovers, ...(await repairLeaks(pool)));
    } finally {
      await locked.release();
    }
  }
  const after = await checkPool(directory, progress);
  return { ...after, repaired };
}

/** A daemon that outlived its plugin still writes: only the plugin, which can talk to it, recovers then. */
async function assertNothingRuns(pool: Pool): Promise<void> {
  for (const layer of pool.layers.values()) {
    const file = pool.layout.layerData(layer.id, layer.format);
    if (layer.sealed || !(await isImageInUse(file, layer.format))) continue;
    throw new LaminaError(
      'disk-in-use',
      `${file} is in use by a storage daemon: start 'lamina standalone' on this pool, which recovers by itself`,
    );
  }
}

async function setAsideDamaged(layout: PoolLayout, problems: Problem[]): Promise<string[]> {
  const directories = [layout.disks, layout.snapshots, layout.images];
  const named = problems.filter(({ file }) => directories.includes(path.dirname(file)));
  const files = new Set(named.filter(({ code }) => code !== 'record-version').map(({ file }) => file));
  if (files.size === 0) return [];
  const release = await takeLock(layout.lockFile, `the pool ${layout.root}`);
  const done: string[] = [];
  try {
    await mkdir(layout.setAside, { recursive: true, mode: 0o700 });
    for (const file of files) {
      const kept = path.join(layout.setAside, `${path.basename(path.dirname(file))}-${path.basename(file)}`);
      await rename(file, kept);
      await syncDirectory(path.dirname(file));
      done.push(`${file}: damaged, moved to ${kept}`);
    }
    await syncDirectory(layout.setAside);
  } finally {
    await release();
  }
  return done;
}

async function repairLeaks(pool: Pool): Promise<string[]> {
  const done: string[] = [];
  for (const disk of pool.disks.values()) {
    const head = pool.chainLayer(disk.head);
    if (head.format !== 'qcow2') continue;
    const { result, leaks } = await checkImage(head.path);
    if (result !== 'leaks') continue;
    await checkImage(head.path, { repairLeaks: true });
    done.push(`${head.path}: ${leaks} lost clusters given back`);
  }
  return done;
}
