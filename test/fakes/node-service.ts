import { mkdir, rm, writeFile } from 'node:fs/promises';
import type { NodeService, PublishRequest, StageRequest, VolumeStats } from '../../src/csi/node/node-service.ts';
import { LaminaError } from '../../src/lib/errors.ts';
import type { FakeDiskService } from './disk-service.ts';

/** Where disks are staged and published, in memory, by the contract of NodeService. Target paths are made for real. */
export class FakeNodeService implements NodeService {
  readonly nodeName = 'node-1';
  readonly staged = new Map<string, StageRequest>();
  readonly published = new Map<string, PublishRequest>();
  readonly #disks: FakeDiskService;

  constructor(disks: FakeDiskService) {
    this.#disks = disks;
  }

  async stage(request: StageRequest): Promise<void> {
    await this.#disks.onOperation('stage');
    const disk = await this.#disks.getDisk(request.diskId);
    const existing = this.staged.get(request.diskId);
    if (existing && !isSame(existing, request))
      throw new LaminaError('target-in-use', `staged at ${existing.stagingPath} otherwise`);
    this.staged.set(request.diskId, request);
    disk.attached = true;
  }

  async unstage({ diskId }: { diskId: string }): Promise<void> {
    this.staged.delete(diskId);
    const disk = this.#disks.disks.get(diskId);
    if (disk) disk.attached = false;
  }

  async publish(request: PublishRequest): Promise<void> {
    await this.#disks.getDisk(request.diskId);
    if (!this.staged.has(request.diskId)) throw new LaminaError('not-staged', `disk ${request.diskId} is not staged`);
    const existing = this.published.get(request.targetPath);
    if (existing && !isSame(existing, request))
      throw new LaminaError('target-in-use', `${request.targetPath} is in use otherwise`);
    if (!existing && request.singleTarget && this.#targetsOf(request.diskId).length > 0) {
      throw new LaminaError('publish-refused', `disk ${request.diskId} is published already, for a single writer`);
    }
    this.published.set(request.targetPath, request);
    if (request.access.kind === 'block') await writeFile(request.targetPath, '');
    else await mkdir(request.targetPath, { recursive: true });
  }

  async unpublish({ targetPath }: { targetPath: string }): Promise<void> {
    if (this.published.delete(targetPath)) await rm(targetPath, { recursive: true, force: true });
  }

  async stats({ diskId, path }: { diskId: string; path: string }): Promise<VolumeStats> {
    const { sizeBytes } = await this.#at(diskId, path);
    if (this.staged.get(diskId)?.access.kind === 'block') return { usage: null, sizeBytes };
    const usage = {
      totalBytes: sizeBytes,
      availableBytes: sizeBytes - 10,
      usedBytes: 10,
      totalInodes: 100,
      freeInodes: 99,
      usedInodes: 1,
    };
    return { usage, sizeBytes };
  }

  async expand({ diskId, path }: { diskId: string; path: string }): Promise<{ sizeBytes: number }> {
    const { sizeBytes } = await this.#at(diskId, path);
    return { sizeBytes };
  }

  async health(diskId: string): Promise<string | null> {
    return (await this.#disks.getDisk(diskId)).unhealthy;
  }

  async #at(diskId: string, path: string): Promise<{ sizeBytes: number }> {
    const disk = await this.#disks.getDisk(diskId);
    const there = this.staged.get(diskId)?.stagingPath === path || this.#targetsOf(diskId).includes(path);
    if (!there) throw new LaminaError('path-not-found', `disk ${diskId} is not at ${path}`);
    return disk;
  }

  #targetsOf(diskId: string): string[] {
    return [...this.published.values()]
      .filter((request) => request.diskId === diskId)
      .map(({ targetPath }) => targetPath);
  }
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
