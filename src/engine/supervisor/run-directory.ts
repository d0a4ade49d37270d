import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LaminaError } from '../../lib/errors.ts';

/** Linux allows 108 bytes with the final zero. */
const maxSocketPathBytes = 107;

/**
 * A daemon's id: short, because unix socket paths are, and the same for every caller that knows the disk. 64 bits of a
 * hash; the spec keeps the whole disk id.
 */
export function daemonIdOf(diskId: string): string {
  return createHash('sha256').update(diskId).digest('hex').slice(0, 16);
}

export const daemonIdPattern = /^[0-9a-f]{16}$/;

/** Files of one daemon. */
export interface DaemonPaths {
  directory: string;
  /** What was asked for; written before the daemon starts, removed first when it goes. */
  spec: string;
  /** Process id and start time; written once it runs. */
  state: string;
  log: string;
  /** Written by the daemon; as an argument on its command line it also tells the process from all others. */
  pid: string;
  /** QMP for the attacher. */
  operationsSocket: string;
  /** QMP for the supervisor's own checks: a QMP server takes one client at a time. */
  healthSocket: string;
  nbdSocket: string;
  /** Where a FUSE export is mounted. */
  exportFile: string;
  /** The device on the export, written by the attacher. */
  device: string;
}

/** What is where below the engine's run directory: sockets, locks and the state of daemons. All of it may go at a reboot. */
export interface RunDirectory {
  root: string;
  lock: string;
  socket: string;
  log: string;
  daemons: string;
  dataPath: string;
  daemon(daemonId: string): DaemonPaths;
}

/** @throws LaminaError `invalid-parameter` where unix sockets below `root` would have too long a path. */
export function runDirectory(root: string): RunDirectory {
  if (!path.isAbsolute(root))
    throw new LaminaError('invalid-parameter', `run directory ${root}: an absolute path is needed`);
  const daemons = path.join(root, 'daemons');
  const longest = daemonPaths(daemons, '0'.repeat(16)).operationsSocket;
  const excess = Buffer.byteLength(longest) - maxSocketPathBytes;
  if (excess > 0) {
    throw new LaminaError(
      'invalid-parameter',
      `run directory ${root}: ${excess} bytes too long for the sockets in it; choose a shorter path`,
    );
  }
  return {
    root,
    lock: path.join(root, 'engine.lock'),
    socket: path.join(root, 'engine.sock'),
    log: path.join(root, 'engine.log'),
    daemons,
    dataPath: path.join(root, 'data-path.json'),
    daemon: (daemonId) => daemonPaths(daemons, daemonId),
  };
}

/** Makes the directories, for root alone. */
export async function ensureRunDirectory(run: RunDirectory): Promise<void> {
  await mkdir(run.daemons, { recursive: true, mode: 0o700 });
}

function daemonPaths(daemons: string, daemonId: string): DaemonPaths {
  const directory = path.join(daemons, daemonId);
  return {
    directory,
    spec: path.join(directory, 'spec.json'),
    state: path.join(directory, 'state.json'),
    log: path.join(directory, 'daemon.log'),
    pid: path.join(directory, 'pid'),
    operationsSocket: path.join(directory, 'operations.sock'),
    healthSocket: path.join(directory, 'health.sock'),
    nbdSocket: path.join(directory, 'nbd.sock'),
    exportFile: path.join(directory, 'export'),
    device: path.join(directory, 'device.json'),
  };
}
