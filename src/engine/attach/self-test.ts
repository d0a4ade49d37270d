import { mkdir, open, rm } from 'node:fs/promises';
import { constants } from 'node:fs';
import path from 'node:path';
import { diskSpace } from '../../host/disk-space.ts';
import { formatBytes, MiB } from '../../lib/bytes.ts';
import { errnoOf, isLaminaError, LaminaError, messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { PoolLayout } from '../../store/layout.ts';
import { layerIdSchema } from '../../store/records.ts';
import { QemuAttacher } from './attacher.ts';
import { readCachedDataPath, surroundingsOf, writeCachedDataPath } from './data-path-cache.ts';
import type { ChosenDataPath, DataPath } from './data-path.ts';
import { findBackends } from './devices.ts';
import { proveEngine, proveLoop, type Scratch } from './proof.ts';
import { ensureRunDirectory, runDirectory } from '../supervisor/run-directory.ts';
import type { SupervisorClient } from '../supervisor/supervisor-client.ts';

export interface SelectDataPathOptions {
  client: SupervisorClient;
  /** Of the pool; where the outcome is kept. */
  runDir: string;
  /** The pool's directory. The test uses a scratch directory in its `tmp`. */
  poolPath: string;
  logger: Logger;
  /** Takes the kernel's NBD device before FUSE where it has one, for those who never grow disks in use. */
  preferNbd?: boolean;
}

/** No disk has such an id, so a test that was killed is recognised and cleared by the next. */
export const selfTestDiskId = '_self-test';
const scratchBytes = 24 * MiB;
/** The raw file, base and overlay of the qcow2 disk and its copy, and what file systems keep of them. */
const neededBytes = 4 * scratchBytes;

/**
 * Proves the ways to attach a disk on a scratch image of the pool, fastest first, and takes the first that is right. The
 * outcome is kept until the next boot, or until QEMU, kernel or pool change. A pool without room for the scratch image is
 * served all the same, as what is in it must be usable and deletable, by the most careful way: through the page cache.
 *
 * @throws LaminaError `data-path-unsafe` where none is right; `engine-unavailable` where the engine does not see the pool;
 *   `device-missing` where the node or its engine has nothing to attach disks by
 */
export async function selectDataPath(options: SelectDataPathOptions): Promise<ChosenDataPath> {
  const { client, runDir, poolPath, logger, preferNbd = false } = options;
  const run = runDirectory(runDir);
  await ensureRunDirectory(run);
  const directory = new PoolLayout(poolPath).selfTest;
  await clearScratch(options, directory);
  const surroundings = await surroundingsOf(poolPath, (await client.describe()).qemuVersion, preferNbd);
  const cached = await readCachedDataPath(run.dataPath, surroundings);
  if (cached) return { ...cached, proven: true };
  const backends = await findBackends(logger);
  const { availableBytes } = await diskSpace(poolPath);
  if (availableBytes < neededBytes) {
    const free = formatBytes(availableBytes);
    logger.warn({ pool: poolPath, free }, 'the pool is too full for the self-test; disks are attached by buffered I/O');
    const [backend = 'fuse'] = backends;
    return { backend, exportDirectIo: false, rawDirectIo: false, imageDirectIo: false, proven: false };
  }
  await mkdir(directory, { recursive: true, mode: 0o700 });
  try {
    const scratch = { directory, diskId: selfTestDiskId, sizeBytes: scratchBytes };
    const attacherFor = (dataPath: DataPath) => new QemuAttacher({ client, dataPath, checkpoint: () => {} });
    const dataPath = await firstProven({ scratch, attacherFor, logger, preferNbd, backends });
    await writeCachedDataPath(run.dataPath, surroundings, dataPath);
    logger.info(dataPath, 'data path chosen');
    return { ...dataPath, proven: true };
  } finally {
    await clearScratch(options, directory);
  }
}

interface Trial {
  preferNbd: boolean;
  /** What this node has. */
  backends: readonly DataPath['backend'][];
  scratch: Scratch;
  attacherFor: (dataPath: DataPath) => QemuAttacher;
  logger: Logger;
}

async function firstProven(trial: Trial): Promise<DataPath> {
  const imageDirectIo = await supportsDirectIo(trial.scratch.directory);
  const base: DataPath = { backend: 'fuse', exportDirectIo: false, rawDirectIo: false, imageDirectIo };
  const raw = await firstRight(trial, [{ ...base, rawDirectIo: imageDirectIo }, base], (attacher) =>
    proveLoop(attacher, trial.scratch),
  );
  const { rawDirectIo } = raw;
  const fast: DataPath = { ...base, rawDirectIo, exportDirectIo: true };
  const slow: DataPath = { ...base, rawDirectIo };
  const nbd: DataPath = { ...base, rawDirectIo, backend: 'nbd' };
  // NBD saves a hop, but a disk on it cannot grow in use.
  const candidates = trial.preferNbd ? [nbd, fast, slow] : [fast, nbd, slow];
  const possible = candidates.filter(({ backend }) => trial.backends.includes(backend));
  return firstRight(trial, possible, (attacher) => proveEngine(attacher, trial.scratch));
}

async function firstRight(
  trial: Trial,
  candidates: DataPath[],
  prove: (attacher: QemuAttacher) => Promise<void>,
): Promise<DataPath> {
  const refusals: string[] = [];
  for (const dataPath of candidates) {
    const attacher = trial.attacherFor(dataPath);
    try {
      await prove(attacher);
      return dataPath;
    } catch (error) {
      if (!speaksOfDataPath(error)) throw error;
      trial.logger.warn({ ...dataPath, reason: messageOf(error) }, 'data path refused');
      refusals.push(`${describe(dataPath)}: ${messageOf(error)}`);
      await attacher.detach({ diskId: selfTestDiskId, chain: [] });
    }
  }
  if (refusals.every((refusal) => refusal.includes('No such file or directory'))) {
    throw new LaminaError(
      'engine-unavailable',
      `the engine of this node does not see ${trial.scratch.directory}: a pool that was added later is mounted when the engine's pod starts, so restart that while no volume of the node is in use`,
    );
  }
  // The words of libfuse.
  if (refusals.every((refusal) => refusal.includes('fuse: device not found'))) {
    throw new LaminaError(
      'device-missing',
      "the engine of this node does not see /dev/fuse, though the node plugin does: restart the engine's pod while no volume of the node is in use, and it gets the node's /dev",
    );
  }
  throw new LaminaError(
    'data-path-unsafe',
    `no way to attach disks on this node is right, so none is offered; use another version of QEMU or another kernel. ${refusals.join('; ')}`,
  );
}

/** Detaches and removes what a test, this one or one that was killed, has made. */
async function clearScratch({ client }: SelectDataPathOptions, directory: string): Promise<void> {
  const dataPath: DataPath = { backend: 'fuse', exportDirectIo: false, rawDirectIo: false, imageDirectIo: false };
  const attacher = new QemuAttacher({ client, dataPath, checkpoint: () => {} });
  const rawFile = path.join(directory, 'raw');
  const raw = { id: layerIdSchema.parse('raw'), format: 'raw' as const, path: rawFile, virtualSizeBytes: scratchBytes };
  await attacher.detach({ diskId: selfTestDiskId, chain: [raw] });
  await rm(directory, { recursive: true, force: true });
}

/** Whether a failure is the candidate's: bytes, devices and daemons, not a full pool or a supervisor that is gone. */
function speaksOfDataPath(error: unknown): boolean {
  const codes = [
    'data-path-unsafe',
    'tool-failed',
    'timeout',
    'qmp-failed',
    'engine-dead',
    'engine-unresponsive',
  ] as const;
  return isLaminaError(error, ...codes) || errnoOf(error) === 'EIO';
}

/** Whether files in `directory` can be opened with O_DIRECT. */
async function supportsDirectIo(directory: string): Promise<boolean> {
  try {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT;
    const handle = await open(path.join(directory, 'direct'), flags, 0o600);
    await handle.close();
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EINVAL') return false;
    throw error;
  }
}

function describe(dataPath: DataPath): string {
  const { backend, exportDirectIo, rawDirectIo } = dataPath;
  return `${backend}${exportDirectIo ? ' with direct I/O' : ''}${rawDirectIo ? ', raw files with direct I/O' : ''}`;
}
