import { createHash } from 'node:crypto';
import type {
  CapacityInfo,
  CreateDiskRequest,
  DiskInfo,
  DiskService,
  NodeRequirement,
  Placement,
  SizeRange,
  SnapshotInfo,
} from '../../src/csi/controller/disk-service.ts';
import { defaultPoolName } from '../../src/api/names.ts';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { LaminaError } from '../../src/lib/errors.ts';

interface FakeDisk extends DiskInfo {
  request: CreateDiskRequest;
  claim: string | null;
}

/** Disks and snapshots in memory, by the contract of DiskService. */
export class FakeDiskService implements DiskService {
  readonly disks = new Map<string, FakeDisk>();
  readonly snapshots = new Map<string, SnapshotInfo>();
  capacityBytes = 100 * GiB;
  /** Awaited at the start of every operation: a test makes one take as long, or fail, as it wants. */
  onOperation: (operation: string) => Promise<void> = async () => {};
  readonly #nodeName: string;

  constructor(nodeName = 'node-1') {
    this.#nodeName = nodeName;
  }

  async createDisk(request: CreateDiskRequest, { nodes, pool, claim }: Placement): Promise<DiskInfo> {
    await this.onOperation('createDisk');
    await this.requirePool(pool);
    this.#requireNodeAllowed(nodes);
    const id = this.diskIdOf(request.name);
    const existing = this.disks.get(id);
    if (existing) return this.#sameDisk(existing, request);
    const sourceSize = this.#sourceSize(request.source);
    const sizeBytes = chooseSize(request.size, sourceSize);
    if (sizeBytes > this.capacityBytes)
      throw new LaminaError('pool-full', `${sizeBytes} bytes wanted; the pool is full`);
    const { source } = request;
    const disk = { id, sizeBytes, source, unhealthy: null, nodeName: this.#nodeName, attached: false, request, claim };
    this.disks.set(id, disk);
    return disk;
  }

  async deleteDisk(diskId: string): Promise<void> {
    await this.onOperation('deleteDisk');
    if (this.disks.get(diskId)?.attached) throw new LaminaError('disk-in-use', `disk ${diskId} is attached`);
    this.disks.delete(diskId);
  }

  async getDisk(diskId: string): Promise<DiskInfo> {
    await this.onOperation('getDisk');
    return this.#disk(diskId);
  }

  async listDisks(): Promise<DiskInfo[]> {
    return byId(this.disks.values());
  }

  async growDisk(diskId: string, size: SizeRange): Promise<DiskInfo> {
    await this.onOperation('growDisk');
    const disk = this.#disk(diskId);
    disk.sizeBytes = chooseSize(size, disk.sizeBytes);
    return disk;
  }

  async modifyDisk(diskId: string, change: { liveSnapshots?: boolean }): Promise<DiskInfo> {
    const disk = this.#disk(diskId);
    Object.assign(disk.request.options, change);
    return disk;
  }

  async createSnapshot(
    { name, diskId }: { name: string; diskId: string },
    nodes: NodeRequirement,
  ): Promise<SnapshotInfo> {
    await this.onOperation('createSnapshot');
    this.#requireNodeAllowed(nodes);
    const id = this.snapshotIdOf(name);
    const existing = this.snapshots.get(id);
    if (existing && existing.diskId !== diskId)
      throw new LaminaError('name-taken', `snapshot ${id} is of another disk`);
    const { sizeBytes } = this.#disk(diskId);
    const snapshot = existing ?? { id, diskId, sizeBytes, createdAt: new Date(), ready: true };
    this.snapshots.set(id, snapshot);
    return snapshot;
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    await this.onOperation('deleteSnapshot');
    this.snapshots.delete(snapshotId);
  }

  async getSnapshot(snapshotId: string): Promise<SnapshotInfo> {
    const snapshot = this.snapshots.get(snapshotId);
    if (!snapshot) throw new LaminaError('snapshot-not-found', `there is no snapshot ${snapshotId}`);
    return snapshot;
  }

  async listSnapshots(): Promise<SnapshotInfo[]> {
    return byId(this.snapshots.values());
  }

  async capacity(_options: unknown, pool: string, node: string | null): Promise<CapacityInfo> {
    await this.requirePool(pool);
    const availableBytes = node === null || node === this.#nodeName ? this.capacityBytes : 0;
    return { availableBytes, maximumVolumeBytes: availableBytes, minimumVolumeBytes: MiB };
  }

  async requirePool(name: string): Promise<void> {
    if (name === defaultPoolName) return;
    throw new LaminaError(
      'invalid-parameter',
      `parameters: pool '${name}' is not served here; this plugin has the pool '${defaultPoolName}'`,
    );
  }

  diskIdOf(name: string): string {
    return /^[a-z0-9-]{1,63}$/.test(name) ? name : createHash('sha256').update(name).digest('hex');
  }

  snapshotIdOf(name: string): string {
    return this.diskIdOf(name);
  }

  #requireNodeAllowed({ allowed }: NodeRequirement): void {
    if (allowed === null || allowed.includes(this.#nodeName)) return;
    throw new LaminaError(
      'topology-unsatisfiable',
      `wanted on ${allowed.join(' or ')}; there is only node '${this.#nodeName}'`,
    );
  }

  #disk(diskId: string): FakeDisk {
    const disk = this.disks.get(diskId);
    if (!disk) throw new LaminaError('disk-not-found', `there is no disk ${diskId}`);
    return disk;
  }

  #sourceSize(source: CreateDiskRequest['source']): number {
    if (!source) return 0;
    if (source.kind === 'disk') return this.#disk(source.id).sizeBytes;
    const snapshot = this.snapshots.get(source.id);
    if (!snapshot) throw new LaminaError('snapshot-not-found', `there is no snapshot ${source.id}`);
    return snapshot.sizeBytes;
  }

  #sameDisk(disk: FakeDisk, { size, options, source }: CreateDiskRequest): DiskInfo {
    const fits = disk.sizeBytes >= size.requiredBytes && (size.limitBytes === 0 || disk.sizeBytes <= size.limitBytes);
    const same = JSON.stringify([disk.request.options, disk.request.source]) === JSON.stringify([options, source]);
    if (!fits || !same) throw new LaminaError('name-taken', `disk ${disk.id} is there and differs`);
    return disk;
  }
}

function chooseSize({ requiredBytes, limitBytes }: SizeRange, atLeast: number): number {
  const size = Math.max(requiredBytes, atLeast) || Math.min(limitBytes || GiB, GiB);
  if (limitBytes !== 0 && size > limitBytes) {
    throw new LaminaError('size-out-of-range', `at least ${size} bytes are needed, at most ${limitBytes} allowed`);
  }
  return size;
}

function byId<T extends { id: string }>(items: Iterable<T>): T[] {
  return [...items].sort((a, b) => (a.id < b.id ? -1 : 1));
}
