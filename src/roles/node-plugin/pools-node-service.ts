import type { NodeService, PublishRequest, StageRequest, VolumeStats } from '../../csi/node/node-service.ts';
import type { Staging } from '../../engine/staging/staging.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { NodePools } from '../../reconcile/node/node-pools.ts';

/** The disks of all pools of this node, as the CSI Node service wants to see them: a disk is in one of them. */
export class PoolsNodeService implements NodeService {
  readonly nodeName: string;
  readonly #pools: NodePools;
  readonly #onUse: (diskId: string) => void;

  /** @param onUse called when a disk was attached, detached or grown */
  constructor(nodeName: string, pools: NodePools, onUse: (diskId: string) => void) {
    this.nodeName = nodeName;
    this.#pools = pools;
    this.#onUse = onUse;
  }

  async stage(request: StageRequest): Promise<void> {
    await this.#told(request.diskId, () => this.#holder(request.diskId).stage(request));
  }

  async unstage(request: { diskId: string; stagingPath: string }): Promise<void> {
    await this.#told(request.diskId, () => this.#holderOrAny(request.diskId).unstage(request));
  }

  async publish(request: PublishRequest): Promise<void> {
    await this.#holder(request.diskId).publish(request);
  }

  async unpublish(request: { diskId: string; targetPath: string }): Promise<void> {
    await this.#holderOrAny(request.diskId).unpublish(request);
  }

  async stats(request: { diskId: string; path: string }): Promise<VolumeStats> {
    return this.#holder(request.diskId).stats(request);
  }

  async expand(request: { diskId: string; path: string }): Promise<{ sizeBytes: number }> {
    return this.#told(request.diskId, () => this.#holder(request.diskId).expand(request));
  }

  async health(diskId: string): Promise<string | null> {
    return this.#holder(diskId).health(diskId);
  }

  /** @throws LaminaError `disk-not-found`; `pool-unavailable` where it may be in a pool that is not served now */
  #holder(diskId: string): Staging {
    const pool = this.#pools.findDisk(diskId);
    if (pool) return pool.staging;
    throw new LaminaError('disk-not-found', `there is no disk ${diskId} on node ${this.nodeName}`);
  }

  /** Paths of a disk that is gone are cleared by any pool. @throws LaminaError `pool-unavailable` */
  #holderOrAny(diskId: string): Staging {
    const pool = this.#pools.findDisk(diskId) ?? this.#pools.opened[0];
    if (pool) return pool.staging;
    throw new LaminaError('pool-unavailable', `node ${this.nodeName} serves no pool now`);
  }

  async #told<T>(diskId: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      this.#onUse(diskId);
    }
  }
}
