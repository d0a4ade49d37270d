import type { DaemonPaths } from '../supervisor/run-directory.ts';

/** What makes the export of a storage daemon a block device. Devices are paths as `/dev/loop3`. */
export interface EngineBackend {
  /** Whether an image can grow while it is exported. */
  readonly growsInUse: boolean;
  /** Arguments of the daemon that export `nodeName`. */
  exportArgs(nodeName: string, paths: DaemonPaths): string[];
  /** The device on a daemon's export, also after its death; null where there is none. */
  findDevice(paths: DaemonPaths): Promise<string | null>;
  /** @throws LaminaError `disk-in-use` for a device that goes away once its last user closes it. */
  refuseClosing(device: string): Promise<void>;
  /** @throws LaminaError `engine-unavailable` where the export cannot be seen from here. */
  makeDevice(paths: DaemonPaths): Promise<string>;
  /** Notes what `findDevice` needs and the kernel does not keep. Idempotent. */
  recordDevice(paths: DaemonPaths, device: string): Promise<void>;
  /** After the export grew to `sizeBytes`: makes the device as big. Idempotent. @throws LaminaError `disk-in-use` where it cannot */
  growDevice(paths: DaemonPaths, device: string, sizeBytes: number): Promise<void>;
  /** @throws LaminaError `disk-in-use` */
  removeDevice(paths: DaemonPaths, device: string): Promise<void>;
}
