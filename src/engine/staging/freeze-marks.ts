import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { blockDeviceSequence, claimUnused } from '../../host/block-device.ts';
import { flush, freeze, type HeldMount, holdMount, thaw } from '../../host/freeze.ts';
import { mountDevice, unmountAll } from '../../host/mount.ts';
import { type Mount, mountsOf, readMounts } from '../../host/mountinfo.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import { ifErrno, isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import { readRecord, writeRecord } from '../../lib/fs-records.ts';
import type { Logger } from '../../lib/logger.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import { numberOf } from './device-use.ts';
import type { FreezeStep } from './staging-steps.ts';

const markVersion = 1;

/** `<runDir>/frozen/<hash>.json`: this file system may be frozen, by us. */
const markSchema = z.strictObject({
  version: z.literal(markVersion),
  diskId: z.string(),
  mountPoint: z.string(),
  fsType: z.string(),
  /** `/dev/loop3` */
  device: z.string(),
  /** `7:3` */
  deviceNumber: z.string(),
  /** Tells this life of the device from later ones. */
  deviceSequence: z.string().nullable(),
});
type Mark = z.infer<typeof markSchema>;

export interface FreezeTarget {
  diskId: string;
  device: BlockDevice;
  /** Mounts of the disk's file system; one of them is used. */
  mounts: readonly Mount[];
}

export interface FreezeRequest {
  /** At most one per file system. */
  targets: readonly FreezeTarget[];
  runDir: string;
  work: () => Promise<void>;
  checkpoint: Checkpoint<FreezeStep>;
  /**
   * Whether writers wait from the first moment on, for as long as the flush takes; unless so, most is flushed before they
   * have to.
   */
  atOnce?: boolean;
}

/** How long a freeze may flush everything that is cached. */
const freezeAtOnceTimeoutMs = 300_000;

interface Marked {
  file: string;
  held: HeldMount;
  /** Whether it is ours to thaw. */
  isFrozen: boolean;
}

/**
 * Runs `work` while file systems are frozen. Marks are written before, so that a process started after a crash thaws what
 * this one left. A file system that somebody else has frozen is as still, and stays frozen.
 *
 * @returns how long the file systems stood still, in milliseconds
 */
export async function withFrozen(request: FreezeRequest): Promise<number> {
  const { targets, runDir, work, checkpoint, atOnce = false } = request;
  const marked: Marked[] = [];
  let start = performance.now();
  let stillMs = 0;
  try {
    for (const target of targets) marked.push(await holdAndMark(target, runDir));
    checkpoint('freeze/marked');
    if (!atOnce) for (const { held } of marked) await flush(held);
    start = performance.now();
    for (const mark of marked) await freezeMarked(mark, atOnce ? freezeAtOnceTimeoutMs : undefined);
    checkpoint('freeze/frozen');
    await work();
    checkpoint('freeze/work-done');
  } finally {
    await thawAll(marked);
    stillMs = performance.now() - start;
    checkpoint('freeze/thawed');
    for (const { file, held } of marked) {
      await rm(file, { force: true });
      await held.release();
    }
    checkpoint('freeze/unmarked');
  }
  return stillMs;
}

async function holdAndMark({ diskId, device, mounts }: FreezeTarget, runDir: string): Promise<Marked> {
  const [mount, held] = await holdFirst(diskId, mounts);
  try {
    const directory = marksDirectory(runDir);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const file = path.join(directory, markName(diskId, mount.mountPoint));
    const mark: Mark = {
      version: markVersion,
      diskId,
      mountPoint: mount.mountPoint,
      fsType: mount.fsType,
      device: device.path,
      deviceNumber: numberOf(device),
      deviceSequence: await blockDeviceSequence(device.path),
    };
    await writeRecord(file, mark, directory);
    return { file, held, isFrozen: false };
  } catch (error) {
    await held.release();
    throw error;
  }
}

/** A mount may be covered by another one, or just be going away. */
async function holdFirst(diskId: string, mounts: readonly Mount[]): Promise<[Mount, HeldMount]> {
  for (const mount of mounts) {
    const held = await holdMount(mount);
    if (held) return [mount, held];
  }
  const places = mounts.map(({ mountPoint }) => mountPoint).join(', ');
  throw new LaminaError(
    'busy',
    `disk ${diskId} was to be frozen at ${places} and was unmounted there just now; try again`,
  );
}

async function freezeMarked(mark: Marked, timeoutMs?: number): Promise<void> {
  // Until it is known otherwise: a freeze that ended with an error may still take effect.
  mark.isFrozen = true;
  mark.isFrozen = await freeze(mark.held, timeoutMs);
  // Somebody else's: after a crash it is not ours to thaw.
  if (!mark.isFrozen) await rm(mark.file);
}

/** Tries all of them. @throws what the first that failed threw; its mark stays, for the next start */
async function thawAll(marked: readonly Marked[]): Promise<void> {
  const failures: unknown[] = [];
  for (const { isFrozen, held } of marked) {
    if (isFrozen) await thaw(held).catch((error: unknown) => failures.push(error));
  }
  if (failures.length === 0) return;
  for (const { held } of marked) await held.release();
  throw failures[0];
}

/**
 * Thaws what marks name and removes them; called at start, before anything that could wait for a frozen file system.
 * What cannot be thawed is logged and keeps its mark.
 */
export async function thawMarked(runDir: string, logger: Logger): Promise<void> {
  const directory = marksDirectory(runDir);
  for (const name of await readdir(directory).catch(ifErrno('ENOENT', []))) {
    const file = path.join(directory, name);
    try {
      if (name.endsWith('.json')) await thawMark(await readRecord(file, markVersion, markSchema), directory, logger);
      // What is not a mark was about to become one, and nothing was frozen yet.
      await rm(file, { force: true, recursive: true });
    } catch (error) {
      logger.error({ mark: file, error: messageOf(error) }, 'a file system may still be frozen and cannot be thawed');
    }
  }
}

async function thawMark(mark: Mark, directory: string, logger: Logger): Promise<void> {
  const { diskId, mountPoint } = mark;
  if ((await blockDeviceSequence(mark.device)) !== mark.deviceSequence) return;
  const mounts = await mountsOf(await readMounts(), mark.deviceNumber);
  // It may have been mounted elsewhere since; all of them are one file system.
  const preferred = mounts.toSorted(
    (a, b) => Number(b.mountPoint === mountPoint) - Number(a.mountPoint === mountPoint),
  );
  for (const mount of preferred) {
    const held = await holdMount(mount);
    if (!held) continue;
    try {
      if (await thaw(held)) logger.warn({ diskId, mountPoint: mount.mountPoint }, 'thawed a file system left frozen');
    } finally {
      await held.release();
    }
    return;
  }
  if (await isInUse(mark.device)) await thawUnmounted(mark, directory, logger);
}

/** A file system that was unmounted while it was frozen lives on, frozen; mounting its device shows it again. */
async function thawUnmounted({ device, diskId, fsType }: Mark, directory: string, logger: Logger): Promise<void> {
  const mountPoint = await mkdtemp(path.join(directory, 'thaw-'));
  try {
    await mountDevice(device, mountPoint, { type: fsType, options: fsType === 'xfs' ? ['nouuid'] : [] });
    const mount = (await readMounts()).findLast((found) => found.mountPoint === mountPoint);
    const held = mount ? await holdMount(mount) : null;
    if (!held) throw new LaminaError('tool-failed', `${mountPoint} was mounted and is not there any more`);
    try {
      if (await thaw(held)) logger.warn({ diskId, device }, 'thawed a file system that was unmounted while frozen');
    } finally {
      await held.release();
    }
  } finally {
    await unmountAll(mountPoint);
    await rmdir(mountPoint);
  }
}

async function isInUse(device: string): Promise<boolean> {
  try {
    await claimUnused(device, { flush: false });
    return false;
  } catch (error) {
    if (isLaminaError(error, 'disk-in-use')) return true;
    throw error;
  }
}

function marksDirectory(runDir: string): string {
  return path.join(runDir, 'frozen');
}

function markName(diskId: string, mountPoint: string): string {
  return `${createHash('sha256').update(`${diskId}\0${mountPoint}`).digest('hex').slice(0, 32)}.json`;
}
