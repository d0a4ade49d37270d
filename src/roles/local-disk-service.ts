import { defaultPoolName } from '../api/names.ts';
import { LaminaError } from '../lib/errors.ts';
import { diskIdOf, snapshotIdOf } from '../store/ids.ts';
import type {
  CapacityInfo,
  CreateDiskRequest,
  DiskInfo,
  DiskOptions,
  DiskService,
  NodeRequirement,
  Placement,
  SizeRange,
  SnapshotInfo,
} from '../csi/controller/disk-service.ts';
import type { DiskContext } from '../engine/disks/disk-context.ts';
import type { Disks } from '../engine/disks/disks.ts';
import { maximumSizeBytes, minimumSizeBytes } from '../store/create-disk.ts';
import type { DiskRecord, SnapshotRecord } from '../store/records.ts';
import { takesSpaceAtOnce } from '../store/space.ts';

/** The disks of the one pool of this machine, as the CSI Controller service wants to see them. */
export class LocalDiskService implements DiskService {
  readonly #disks: Disks;
  readonly #context: DiskContext;
  readonly #nodeName: string;
  readonly #health: (diskId: string) => Promise<string | null>;

  /** @param health what is wrong with a disk where it is attached, or null */
  constructor(
    disks: Disks,
    context: DiskContext,
    nodeName: string,
    health: (diskId: string) => Promise<string | null>,
  ) {
    this.#disks = disks;
    this.#context = context;
    this.#nodeName = nodeName;
    this.#health = health;
  }

  readonly diskIdOf = diskIdOf;
  readonly snapshotIdOf = snapshotIdOf;

  async createDisk(request: CreateDiskRequest, { nodes, pool }: Placement): Promise<DiskInfo> {
    await this.requirePool(pool);
    this.#requireNodeAllowed(nodes);
    return this.#info(await this.#disks.create(request));
  }

  async deleteDisk(diskId: string): Promise<void> {
    await this.#disks.delete(diskId);
  }

  async getDisk(diskId: string): Promise<DiskInfo> {
    const disk = this.#context.pool.disk(diskId);
    return { ...this.#info(disk), unhealthy: await this.#health(disk.id) };
  }

  async listDisks(): Promise<DiskInfo[]> {
    const disks = [...this.#context.pool.disks.values()].map((disk) => this.#info(disk));
    return disks.sort(byId);
  }

  async growDisk(diskId: string, size: SizeRange): Promise<DiskInfo> {
    return this.#info(await this.#disks.grow(diskId, size));
  }

  async modifyDisk(diskId: string, change: { liveSnapshots?: boolean }): Promise<DiskInfo> {
    return this.#info(await this.#disks.modify(diskId, change));
  }

  async createSnapshot(request: { name: string; diskId: string }, nodes: NodeRequirement): Promise<SnapshotInfo> {
    this.#requireNodeAllowed(nodes);
    return snapshotInfo(await this.#disks.createSnapshot(request));
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    await this.#disks.deleteSnapshot(snapshotId);
  }

  async getSnapshot(snapshotId: string): Promise<SnapshotInfo> {
    return snapshotInfo(this.#disks.snapshot(snapshotId));
  }

  async listSnapshots(): Promise<SnapshotInfo[]> {
    const ready = [...this.#context.pool.snapshots.values()].filter(
      ({ state, transient }) => state === 'ready' && !transient,
    );
    return ready.map(snapshotInfo).sort(byId);
  }

  async capacity(
    { preallocation }: Pick<DiskOptions, 'preallocation'>,
    pool: string,
    node: string | null,
  ): Promise<CapacityInfo> {
    await this.requirePool(pool);
    if (node !== null && node !== this.#nodeName)
      return { availableBytes: 0, maximumVolumeBytes: 0, minimumVolumeBytes: minimumSizeBytes };
    const space = await this.#context.space.space();
    const availableBytes = takesSpaceAtOnce(preallocation) ? space.thickBytes : space.thinBytes;
    return {
      availableBytes,
      maximumVolumeBytes: Math.min(availableBytes, maximumSizeBytes),
      minimumVolumeBytes: minimumSizeBytes,
    };
  }

  async requirePool(name: string): Promise<void> {
    if (name === defaultPoolName) return;
    throw new LaminaError(
      'invalid-parameter',
      `parameters: pool '${name}' is not served here; this plugin has the pool '${defaultPoolName}'`,
    );
  }

  /** The one node there is here is all there is to choose from. */
  #requireNodeAllowed({ allowed }: NodeRequirement): void {
    if (allowed === null || allowed.includes(this.#nodeName)) return;
    const wanted = allowed.length > 0 ? `node ${allowed.join(' or ')}` : 'a place that is none of its nodes';
    throw new LaminaError(
      'topology-unsatisfiable',
      `the volume must be accessible from ${wanted}; this plugin makes volumes on node '${this.#nodeName}' only`,
    );
  }

  #info(disk: DiskRecord): DiskInfo {
    const { id, sizeBytes, source } = disk;
    return {
      id,
      sizeBytes,
      // CSI has volumes and snapshots for sources.
      source: source === null || source.kind === 'image' ? null : { kind: source.kind, id: source.id },
      unhealthy: null,
      nodeName: this.#nodeName,
      attached: this.#context.pool.isAttached(id),
    };
  }
}

function snapshotInfo({ id, disk, sizeBytes, createdAt, state }: SnapshotRecord): SnapshotInfo {
  return { id, diskId: disk, sizeBytes, createdAt: new Date(createdAt), ready: state === 'ready' };
}

function byId(a: { id: string }, b: { id: string }): number {
  return a.id < b.id ? -1 : 1;
}
