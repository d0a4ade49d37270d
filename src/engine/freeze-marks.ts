// NOTE to the staging helper: written by the lead as a stopgap; replace by yours if you have one (keep the exports whileFrozen/thawMarked(runDir, logger)/freezeSteps/stagingSteps and the class DeviceFreezer used in roles/standalone.ts), and remove this line.
import { createHash } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { freeze, thaw } from '../host/freeze.ts';
import { listMounts } from '../host/mountinfo.ts';
import type { Checkpoint } from '../lib/checkpoint.ts';
import { ifErrno } from '../lib/errors.ts';
import { readRecord, writeRecord } from '../lib/fs-records.ts';
import type { Logger } from '../lib/logger.ts';
import { readdir } from 'node:fs/promises';
import type { FreezeStep } from './staging-steps.ts';

const version = 1;
const markSchema = z.strictObject({ version: z.literal(version), diskId: z.string(), device: z.string(), mountPoint: z.string() });

function directoryOf(runDir: string): string {
  return path.join(runDir, 'frozen');
}

export interface FreezeRequest {
  runDir: string;
  diskId: string;
  /** Device number of the file system, `7:3`. */
  device: string;
  mountPoint: string;
  checkpoint: Checkpoint<FreezeStep>;
  /** Told how long the file system stood still. */
  onFrozen: (durationMs: number) => void;
}

/**
 * Runs `work` while a file system is frozen. A mark is left before, so that the next start thaws what this process, were
 * it killed now, would leave frozen for ever.
 */
export async function whileFrozen(request: FreezeRequest, work: () => Promise<void>): Promise<void> {
  const { runDir, diskId, device, mountPoint, checkpoint } = request;
  const directory = directoryOf(runDir);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const mark = path.join(directory, `${createHash('sha256').update(diskId).digest('hex').slice(0, 32)}.json`);
  await writeRecord(mark, { version, diskId, device, mountPoint }, directory);
  checkpoint('freeze/marked');
  const startedAt = performance.now();
  try {
    const isOurs = await freeze(mountPoint);
    checkpoint('freeze/frozen');
    try {
      await work();
      checkpoint('freeze/work-done');
    } finally {
      if (isOurs) await thaw(mountPoint);
    }
  } catch (error) {
    // A freeze that was given up may have come about all the same.
    await thaw(mountPoint);
    throw error;
  }
  request.onFrozen(performance.now() - startedAt);
  checkpoint('freeze/thawed');
  await rm(mark);
  checkpoint('freeze/unmarked');
}

/** Thaws what a process that died has left frozen. To be called before anything that may fail. */
export async function thawMarked(runDir: string, logger: Logger): Promise<void> {
  const directory = directoryOf(runDir);
  for (const name of await readdir(directory).catch(ifErrno('ENOENT', []))) {
    const file = path.join(directory, name);
    // Anything else is a mark that was not finished, and so was the freeze not begun.
    if (name.endsWith('.json')) await thawMark(file, logger);
    await rm(file);
  }
}

async function thawMark(file: string, logger: Logger): Promise<void> {
  const { diskId, device, mountPoint } = await readRecord(file, version, markSchema);
  const mounts = (await listMounts()).filter((mount) => mount.device === device);
  const mount = mounts.find((candidate) => candidate.mountPoint === mountPoint) ?? mounts[0];
  logger.warn({ diskId, mountPoint, mounted: mount?.mountPoint }, 'thawing what an interrupted snapshot left frozen');
  if (mount) await thaw(mount.mountPoint);
}
