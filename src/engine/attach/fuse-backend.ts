import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import * as z from 'zod/mini';
import { ifErrno, LaminaError } from '../../lib/errors.ts';
import { run } from '../../lib/exec.ts';
import { parseJson } from '../../lib/parse-json.ts';
import { pollUntil } from '../../lib/poll.ts';
import { blockDeviceSequence, blockDeviceSizeBytes } from '../../host/block-device.ts';
import { findFuseMount, setMaxBackground } from '../../host/fuse-mount.ts';
import {
  createLoopDevice,
  findLoopDeviceOnExport,
  isSameLoopDevice,
  refreshLoopCapacity,
  refuseClosing,
  removeLoopDevice,
} from '../../host/loop.ts';
import { fuseExportArgs } from '../../qemu/storage-daemon.ts';
import type { EngineBackend } from './engine-backend.ts';
import type { DaemonPaths } from '../supervisor/run-directory.ts';

/** The one file of a FUSE export. */
const exportInode = 1;
/** More do not make it faster (docs/operators/performance.md). */
const requestsInFlight = 64;
const statTimeoutMs = 10_000;
const growTimeoutMs = 10_000;

const deviceRecord = z.strictObject({ device: z.string(), sequence: z.string() });

/** A FUSE export, which is a file, and a loop device on it. */
export class FuseBackend implements EngineBackend {
  readonly growsInUse = true;
  readonly #directIo: boolean;

  constructor(options: { directIo: boolean }) {
    this.#directIo = options.directIo;
  }

  exportArgs(nodeName: string, paths: DaemonPaths): string[] {
    return fuseExportArgs(nodeName, paths.exportFile);
  }

  /**
   * By the record; where there is none, because a crash came first, by the export's device number. A dead export has lost
   * that, and one whose daemon ended by SIGTERM is not even mounted any more.
   */
  async findDevice(paths: DaemonPaths): Promise<string | null> {
    const recorded = await findRecorded(paths);
    if (recorded !== null) return recorded;
    const device = await findFuseMount(paths.exportFile);
    if (device === null) return null;
    return findLoopDeviceOnExport(paths.exportFile, { inode: exportInode, device });
  }

  refuseClosing(device: string): Promise<void> {
    return refuseClosing(device);
  }

  async makeDevice(paths: DaemonPaths): Promise<string> {
    const mounted = await findFuseMount(paths.exportFile);
    if (mounted === null) {
      const message = `nothing is mounted at ${paths.exportFile}: the engine's run directory must be shared with this process, mounts included (mountPropagation: Bidirectional)`;
      throw new LaminaError('engine-unavailable', message);
    }
    await setMaxBackground(mounted, requestsInFlight);
    return createLoopDevice(paths.exportFile, { directIo: this.#directIo });
  }

  async recordDevice(paths: DaemonPaths, device: string): Promise<void> {
    const sequence = await blockDeviceSequence(device);
    if (sequence === null) return;
    const record: z.infer<typeof deviceRecord> = { device, sequence };
    await writeFile(`${paths.device}.new`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${paths.device}.new`, paths.device);
  }

  async growDevice(paths: DaemonPaths, device: string, sizeBytes: number): Promise<void> {
    if ((await blockDeviceSizeBytes(device)) >= sizeBytes) return;
    const hasGrown = async () => {
      // The kernel remembers a FUSE file's size for a second; this asks the daemon, and the loop driver then sees it.
      await run('stat', ['--cached=never', '--format=%s', paths.exportFile], { timeoutMs: statTimeoutMs });
      if ((await stat(paths.exportFile)).size < sizeBytes) return false;
      await refreshLoopCapacity(device);
      return (await blockDeviceSizeBytes(device)) >= sizeBytes;
    };
    if (await pollUntil(hasGrown, { timeoutMs: growTimeoutMs, intervalMs: 20 })) return;
    throw new LaminaError(
      'timeout',
      `${device} did not grow to ${sizeBytes} bytes within ${growTimeoutMs} ms; try again`,
    );
  }

  async removeDevice(paths: DaemonPaths, device: string): Promise<void> {
    await removeLoopDevice(device);
    await rm(paths.device, { force: true });
  }
}

async function findRecorded(paths: DaemonPaths): Promise<string | null> {
  const text = await readFile(paths.device, 'utf8').catch(ifErrno('ENOENT', ''));
  // What is damaged counts as none: the export tells as well, as long as its daemon lives.
  const record = deviceRecord.safeParse(parseJson(text));
  if (!record.success) return null;
  const { device, sequence } = record.data;
  return (await isSameLoopDevice(device, sequence)) ? device : null;
}
