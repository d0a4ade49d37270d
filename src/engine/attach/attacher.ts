import { LaminaError } from '../../lib/errors.ts';
import type { Checkpoint } from '../../lib/checkpoint.ts';
import { KeyedLock } from '../../lib/keyed-lock.ts';
import { blockDeviceNumber } from '../../host/block-device.ts';
import type { FileAccess } from '../../qemu/blockdev.ts';
import type { ChainLayer } from '../../store/records.ts';
import type { Attacher, Attachment, AttachRequest, BlockDevice } from './attachment.ts';
import type { DataPath } from './data-path.ts';
import { EngineAttachment, requireAnswers } from './engine-attachment.ts';
import { activeHead, addOverlay, followMerges, switchToOverlay } from './live-operations.ts';
import { LoopBackend } from './loop-backend.ts';
import type { EngineStep } from './steps.ts';
import type { SupervisorClient } from '../supervisor/supervisor-client.ts';

export interface QemuAttacherOptions {
  client: SupervisorClient;
  dataPath: DataPath;
  checkpoint: Checkpoint<EngineStep>;
}

type Named = Pick<AttachRequest, 'diskId' | 'chain'>;

/** Attaches raw files by plain loop devices and everything else by storage daemons. Keeps no state of its own. */
export class QemuAttacher implements Attacher {
  readonly #client: SupervisorClient;
  readonly #loop: LoopBackend;
  readonly #engine: EngineAttachment;
  readonly #imageDirectIo: boolean;
  readonly #checkpoint: Checkpoint<EngineStep>;
  readonly #locks = new KeyedLock();

  constructor(options: QemuAttacherOptions) {
    const { client, dataPath, checkpoint } = options;
    this.#client = client;
    this.#imageDirectIo = dataPath.imageDirectIo;
    this.#checkpoint = checkpoint;
    this.#loop = new LoopBackend({ directIo: dataPath.rawDirectIo, checkpoint });
    this.#engine = new EngineAttachment({ client, dataPath, checkpoint });
  }

  attach(request: AttachRequest): Promise<BlockDevice> {
    return this.#locks.run(request.diskId, async () => {
      const file = plainFileOf(request.chain);
      // Whatever serves it from before its options were changed stays until it is detached: never two writers.
      const onLoop = file !== null && (await this.#loop.find(file)) !== null;
      const byLoop =
        onLoop || (file !== null && !request.viaEngine && !(await this.#client.findDaemon(request.diskId)));
      const device = byLoop
        ? await this.#loop.attach(file, request)
        : await this.#engine.attach(request, this.#fileAccess(request.discard));
      return describe(device);
    });
  }

  async find(request: Named): Promise<Attachment | null> {
    const byEngine = await this.#engine.find(request.diskId);
    if (byEngine) {
      const { by, state, device } = byEngine;
      return { by, state, device: device === null ? null : await describe(device) };
    }
    const file = plainFileOf(request.chain);
    const loop = file === null ? null : await this.#loop.find(file);
    return loop === null ? null : { by: 'loop', state: 'healthy', device: await describe(loop) };
  }

  detach(request: Named): Promise<void> {
    return this.#locks.run(request.diskId, async () => {
      await this.#engine.detach(request.diskId);
      const file = plainFileOf(request.chain);
      if (file !== null) await this.#loop.detach(file);
    });
  }

  resize(request: Named, sizeBytes: number): Promise<void> {
    return this.#locks.run(request.diskId, async () => {
      const attachment = await this.find(request);
      if (!attachment?.device) throw notAttached(request.diskId);
      if (attachment.by === 'loop') await this.#loop.resize(attachment.device.path, sizeBytes);
      else await this.#engine.resize(request.diskId, sizeBytes);
    });
  }

  prepareHead(diskId: string, overlay: ChainLayer, discard: boolean): Promise<void> {
    return this.#locks.run(diskId, async () => {
      await this.#engine.requireRunning(diskId);
      await addOverlay(this.#client.pathsOf(diskId).operationsSocket, overlay, this.#fileAccess(discard));
    });
  }

  /** Asks nobody but the daemon: the disk's file system is frozen meanwhile. */
  switchHead(diskId: string, overlayLayerId: string): Promise<void> {
    return this.#locks.run(diskId, () =>
      switchToOverlay(this.#client.pathsOf(diskId).operationsSocket, overlayLayerId),
    );
  }

  async activeHead(diskId: string): Promise<string | null> {
    const daemon = await this.#client.findDaemon(diskId);
    if (!daemon) return null;
    await this.#engine.requireRunning(diskId);
    return activeHead(this.#client.pathsOf(diskId).operationsSocket);
  }

  followMerges({ diskId, chain, discard }: AttachRequest): Promise<boolean> {
    return this.#locks.run(diskId, async () => {
      const daemon = await this.#client.findDaemon(diskId);
      if (!daemon || daemon.state === 'dead') return true;
      requireAnswers(daemon);
      const following = { chain, access: this.#fileAccess(discard), checkpoint: this.#checkpoint };
      return followMerges(this.#client.pathsOf(diskId).operationsSocket, following);
    });
  }

  async daemonDiskIds(): Promise<string[]> {
    return (await this.#client.listDaemons()).map((daemon) => daemon.diskId);
  }

  #fileAccess(discard: boolean): FileAccess {
    // Linux AIO blocks the iothread where a file must be extended, as thin images are all the time.
    return { discard, direct: this.#imageDirectIo, aio: 'threads' };
  }
}

/** The file that can be attached without a daemon, or null. */
function plainFileOf(chain: readonly ChainLayer[]): string | null {
  const [head] = chain;
  return chain.length === 1 && head?.format === 'raw' ? head.path : null;
}

async function describe(device: string): Promise<BlockDevice> {
  return { path: device, ...(await blockDeviceNumber(device)) };
}

function notAttached(diskId: string): LaminaError {
  return new LaminaError('not-attached', `disk ${diskId} has no device on this node: attach it first`);
}
