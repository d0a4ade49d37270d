import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { LaminaError, messageOf } from '../lib/errors.ts';
import type { BlockdevOptions } from './blockdev.ts';

/** The one export of a daemon. */
export const exportId = 'disk';
const iothreadId = 'io';

/**
 * An export keeps to its own thread. Without `fixed-iothread` QEMU 10.0 moves it to the main thread when an image has
 * grown, and waits for requests in flight meanwhile, which wait for the lock of the graph that it holds: now and then
 * neither ever goes on (docs/adr/0020-exports-stay-on-their-thread.md).
 */
const ownThread = { iothread: iothreadId, 'fixed-iothread': true };

/** A FUSE export shows `nodeName` as the regular file `mountpoint`, which must exist. */
export function fuseExportArgs(nodeName: string, mountpoint: string): string[] {
  return [
    '--export',
    JSON.stringify({
      type: 'fuse',
      id: exportId,
      'node-name': nodeName,
      mountpoint,
      writable: true,
      growable: false,
      'allow-other': 'off',
      ...ownThread,
    }),
  ];
}

/** An NBD server on a unix socket with `nodeName` as the export `disk`, for at most `connections` clients. */
export function nbdExportArgs(nodeName: string, socketPath: string, connections: number, writable = true): string[] {
  const server = { addr: { type: 'unix', path: socketPath }, 'max-connections': connections };
  const nbdExport = {
    type: 'nbd',
    id: exportId,
    'node-name': nodeName,
    name: exportId,
    writable,
    ...ownThread,
  };
  return ['--nbd-server', JSON.stringify(server), '--export', JSON.stringify(nbdExport)];
}

/** An iothread for the export, and the nodes, lowest first. */
export function graphArgs(blockdevs: readonly BlockdevOptions[]): string[] {
  const objects = ['--object', `iothread,id=${iothreadId}`];
  return [...objects, ...blockdevs.flatMap((options) => ['--blockdev', JSON.stringify(options)])];
}

/** A QMP server on a unix socket; it takes one client at a time. */
export function monitorArgs(name: string, socketPath: string): string[] {
  return [
    '--chardev',
    `socket,id=${name},path=${escapeComma(socketPath)},server=on,wait=off`,
    '--monitor',
    `chardev=${name},mode=control`,
  ];
}

/** In QEMU's key=value options a comma ends the value, two are one comma. */
function escapeComma(value: string): string {
  return value.replaceAll(',', ',,');
}

/**
 * The daemon takes a buffer for every request and gives it back. By default the C library returns big ones to the kernel
 * each time, and the next request faults all of its pages in again.
 */
const keptMemory = ['MMAP', 'TRIM'].map((which) => `MALLOC_${which}_THRESHOLD_=${16 * 1024 * 1024}`);

/**
 * Starts a daemon in a session of its own, so that neither a signal to our group nor our death reaches it.
 * `logFd` takes its standard output and error. The child does not keep this process alive.
 */
export function spawnStorageDaemon(args: readonly string[], logFd: number): ChildProcess {
  const child = spawn('env', [...keptMemory, 'qemu-storage-daemon', ...args], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', logFd, logFd],
  });
  child.unref();
  return child;
}

const versionTimeoutMs = 10_000;

/** `qemu-storage-daemon version 10.0.13 (…)`. Not by lib/exec, which would double the memory of the supervisor. @throws LaminaError `tool-missing` */
export async function storageDaemonVersion(): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('qemu-storage-daemon', ['--version'], { timeout: versionTimeoutMs });
    return stdout.split('\n')[0] ?? '';
  } catch (error) {
    throw new LaminaError('tool-missing', `qemu-storage-daemon does not say its version: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
