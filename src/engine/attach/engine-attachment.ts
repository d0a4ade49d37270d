import { errnoOf, isLaminaError, LaminaError } from '../../lib/errors.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import { claimUnused } from '../../host/block-device.ts';
import { type FileAccess, imageBlockdev } from '../../qemu/blockdev.ts';
import { graphArgs } from '../../qemu/storage-daemon.ts';
import type { ChainLayer } from '../../store/records.ts';
import type { Attachment, AttachRequest } from './attachment.ts';
import type { DataPath } from './data-path.ts';
import type { EngineBackend } from './engine-backend.ts';
import { FuseBackend } from './fuse-backend.ts';
import { growHead } from './live-operations.ts';
import { NbdBackend } from './nbd-backend.ts';
import type { EngineStep } from './steps.ts';
import type { SupervisorClient } from '../supervisor/supervisor-client.ts';
import type { DaemonReport } from '../supervisor/supervisor-protocol.ts';

export interface EngineAttachmentOptions {
  client: SupervisorClient;
  dataPath: DataPath;
  checkpoint: Checkpoint<EngineStep>;
}

interface Found {
  by: 'fuse' | 'nbd';
  state: Attachment['state'];
  device: string | null;
}

const stateOf = { running: 'healthy', dead: 'dead', unresponsive: 'unresponsive' } as const;

/** Disks attached by a storage daemon and a device on its export. */
export class EngineAttachment {
  readonly #options: EngineAttachmentOptions;
  readonly #backends: { fuse: EngineBackend; nbd: EngineBackend };

  constructor(options: EngineAttachmentOptions) {
    this.#options = options;
    this.#backends = { fuse: new FuseBackend({ directIo: options.dataPath.exportDirectIo }), nbd: new NbdBackend() };
  }

  /** Idempotent. @returns the device's path. @throws LaminaError `engine-dead`, `engine-unresponsive`, `tool-failed` */
  async attach(request: AttachRequest, access: FileAccess): Promise<string> {
    const { client, checkpoint } = this.#options;
    const paths = client.pathsOf(request.diskId);
    const found = await client.findDaemon(request.diskId);
    const running = found ?? (await this.#startDaemon(request, access));
    requireAnswers(running);
    checkpoint('attach-engine/daemon-started');
    const backend = this.#backends[backendOf(running)];
    // On a new export there is nothing to look for.
    const earlier = found ? await backend.findDevice(paths) : null;
    const device = earlier ?? (await backend.makeDevice(paths));
    await backend.refuseClosing(device);
    checkpoint('attach-engine/device-made');
    await backend.recordDevice(paths, device);
    checkpoint('attach-engine/device-recorded');
    const [head] = request.chain;
    if (head) await backend.growDevice(paths, device, head.virtualSizeBytes);
    return device;
  }

  async find(diskId: string): Promise<Found | null> {
    const { client } = this.#options;
    const daemon = await client.findDaemon(diskId);
    const paths = client.pathsOf(diskId);
    if (daemon) {
      const by = backendOf(daemon);
      return { by, state: stateOf[daemon.state], device: await this.#backends[by].findDevice(paths) };
    }
    const leftOver = await this.#backends.nbd.findDevice(paths);
    return leftOver === null ? null : { by: 'nbd', state: 'dead', device: leftOver };
  }

  /** Idempotent. @throws LaminaError `disk-in-use`, `engine-unresponsive` */
  async detach(diskId: string): Promise<void> {
    const { client, checkpoint } = this.#options;
    const found = await this.find(diskId);
    if (!found) return;
    if (found.device !== null) {
      const isHealthy = found.state === 'healthy';
      await claimUnused(found.device, { flush: isHealthy }).catch(ifNothingBelow);
      // Its device would wait for it for ever; with the daemon ended, what waits fails.
      if (found.state === 'unresponsive') await client.stopDaemon(diskId).catch(ifExportHeld);
      await this.#backends[found.by].removeDevice(client.pathsOf(diskId), found.device);
    }
    checkpoint('detach-engine/device-removed');
    await client.stopDaemon(diskId);
    checkpoint('detach-engine/daemon-stopped');
  }

  /**
   * Grows image, export and device. Idempotent.
   * @throws LaminaError `disk-in-use` where the backend cannot; `not-attached`, `engine-dead`, `engine-unresponsive`
   */
  async resize(diskId: string, sizeBytes: number): Promise<void> {
    const { client, checkpoint } = this.#options;
    const paths = client.pathsOf(diskId);
    const backend = this.#backends[backendOf(await this.requireRunning(diskId))];
    if (backend.growsInUse) await growHead(paths.operationsSocket, sizeBytes);
    checkpoint('resize-engine/image-grown');
    const device = await backend.findDevice(paths);
    if (device !== null) await backend.growDevice(paths, device, sizeBytes);
    checkpoint('resize-engine/device-grown');
  }

  /** @throws LaminaError `not-attached`, `engine-dead`, `engine-unresponsive` */
  async requireRunning(diskId: string): Promise<DaemonReport> {
    const daemon = await this.#options.client.findDaemon(diskId);
    if (daemon) return requireAnswers(daemon);
    throw new LaminaError('not-attached', `disk ${diskId} has no storage daemon on this node: attach it first`);
  }

  #startDaemon(request: AttachRequest, access: FileAccess): Promise<DaemonReport> {
    const { client, dataPath } = this.#options;
    const [head] = request.chain;
    if (!head) throw new LaminaError('graph-corrupt', `disk ${request.diskId} has no layers to attach`);
    const by = dataPath.backend;
    const nodes = graphArgs(chainBlockdevs(request.chain, access));
    const shown = this.#backends[by].exportArgs(head.id, client.pathsOf(request.diskId));
    return client.startDaemon({ diskId: request.diskId, arguments: [...nodes, ...shown], labels: { by } });
  }
}

/** Nodes of a chain, lowest first; only the head can be written. */
function chainBlockdevs(chain: readonly ChainLayer[], access: FileAccess) {
  return chain
    .map((layer, index) => {
      const { id, format, path } = layer;
      const backing = chain[index + 1]?.id ?? null;
      return imageBlockdev({ nodeName: id, format, path, readOnly: index > 0, backing }, access);
    })
    .reverse();
}

function backendOf(daemon: DaemonReport): 'fuse' | 'nbd' {
  return daemon.labels['by'] === 'nbd' ? 'nbd' : 'fuse';
}

/** @throws LaminaError `engine-dead`, `engine-unresponsive` */
export function requireAnswers(daemon: DaemonReport): DaemonReport {
  if (daemon.state === 'running') return daemon;
  if (daemon.state === 'dead') {
    throw new LaminaError(
      'engine-dead',
      `the storage daemon of ${daemon.diskId} died: detach the disk, then attach it`,
    );
  }
  throw new LaminaError(
    'engine-unresponsive',
    `the storage daemon of ${daemon.diskId} (process ${daemon.pid}) does not answer: its disk or its host is too slow, or it hangs; end it with SIGKILL if it stays so`,
  );
}

/** A dead daemon's device has nothing to flush to. */
function ifNothingBelow(error: unknown): void {
  if (!['EIO', 'ENXIO', 'ENODEV'].includes(errnoOf(error) ?? '')) throw error;
}

/** The daemon has ended; its export is unmounted once the device is off it. */
function ifExportHeld(error: unknown): void {
  if (!isLaminaError(error, 'disk-in-use')) throw error;
}
