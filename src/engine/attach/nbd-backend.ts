import { blockDeviceSizeBytes } from '../../host/block-device.ts';
import { connectNbdDevice, disconnectNbdDevice, findNbdDevice } from '../../host/nbd.ts';
import { LaminaError } from '../../lib/errors.ts';
import { exportId, nbdExportArgs } from '../../qemu/storage-daemon.ts';
import type { EngineBackend } from './engine-backend.ts';
import type { DaemonPaths } from '../supervisor/run-directory.ts';

const connections = 4;

/** The kernel's NBD device, connected over the daemon's own unix socket, whose path is the device's identifier. */
export class NbdBackend implements EngineBackend {
  readonly growsInUse = false;

  exportArgs(nodeName: string, paths: DaemonPaths): string[] {
    return nbdExportArgs(nodeName, paths.nbdSocket, connections);
  }

  findDevice(paths: DaemonPaths): Promise<string | null> {
    return findNbdDevice(paths.nbdSocket);
  }

  async makeDevice(paths: DaemonPaths): Promise<string> {
    const { nbdSocket } = paths;
    const leftOver = await findNbdDevice(nbdSocket);
    if (leftOver !== null) return leftOver;
    return connectNbdDevice({ socketPath: nbdSocket, exportName: exportId, connections, identifier: nbdSocket });
  }

  /** A device that was disconnected is not found. */
  async refuseClosing(): Promise<void> {}

  /** The kernel keeps the identifier. */
  async recordDevice(): Promise<void> {}

  async growDevice(_paths: DaemonPaths, device: string, sizeBytes: number): Promise<void> {
    if ((await blockDeviceSizeBytes(device)) >= sizeBytes) return;
    const message = `${device} cannot grow to ${sizeBytes} bytes in use: QEMU keeps the size of what it exports by NBD. Detach the disk (stop what uses it), then it grows`;
    throw new LaminaError('disk-in-use', message);
  }

  async removeDevice(_paths: DaemonPaths, device: string): Promise<void> {
    await disconnectNbdDevice(device);
  }
}
