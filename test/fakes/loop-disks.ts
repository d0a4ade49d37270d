import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Attachment, BlockDevice } from '../../src/engine/attach/attachment.ts';
import type { DiskAccess } from '../../src/engine/staging/staging-port.ts';
import { blockDeviceNumber, claimUnused } from '../../src/host/block-device.ts';
import { removeLoopDevice } from '../../src/host/loop.ts';
import { LaminaError } from '../../src/lib/errors.ts';
import { dataExtents, type Extent } from '../../src/qemu/data-extents.ts';
import { type DiskRecord, diskRecordSchema } from '../../src/store/records.ts';

/** Disks that are files on loop devices below a directory; a second process finds what a first one made. */
export class LoopDisks implements DiskAccess {
  readonly directory: string;
  /** Disks whose daemon is to seem dead; detaching brings them back. */
  readonly dead = new Set<string>();
  /** Disks whose daemon is to seem not to answer. */
  readonly unresponsive = new Set<string>();

  constructor(directory: string) {
    this.directory = directory;
  }

  /** @param thick with every block allocated */
  create(diskId: string, sizeBytes: number, { thick = false } = {}): string {
    const file = this.file(diskId);
    writeFileSync(file, '');
    if (thick) execFileSync('fallocate', ['-l', String(sizeBytes), file]);
    else truncateSync(file, sizeBytes);
    this.#write({
      version: 1,
      id: diskId as DiskRecord['id'],
      name: diskId,
      head: 'l0' as DiskRecord['head'],
      sizeBytes,
      options: {
        format: 'raw',
        preallocation: thick ? 'falloc' : 'off',
        clusterSizeBytes: null,
        liveSnapshots: false,
      },
      source: null,
      filesystem: null,
      createdAt: new Date(0).toISOString(),
    });
    return file;
  }

  /** As a snapshot restored to a new disk. */
  copy(from: string, to: string): void {
    execFileSync('cp', ['--sparse=always', this.file(from), this.file(to)]);
    this.#write({ ...this.disk(from), id: to as DiskRecord['id'], source: { kind: 'disk', id: from } });
  }

  /** As a volume that its controller has grown. */
  grow(diskId: string, sizeBytes: number): void {
    truncateSync(this.file(diskId), sizeBytes);
    this.#write({ ...this.disk(diskId), sizeBytes });
  }

  file(diskId: string): string {
    return path.join(this.directory, `${diskId}.img`);
  }

  allocatedBytes(diskId: string): number {
    return statSync(this.file(diskId)).blocks * 512;
  }

  disk(diskId: string): DiskRecord {
    const file = this.#recordFile(diskId);
    if (!existsSync(file)) throw new LaminaError('disk-not-found', `there is no disk ${diskId}`);
    return diskRecordSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  }

  async attach(diskId: string): Promise<BlockDevice> {
    const sizeBytes = this.disk(diskId).sizeBytes;
    const found = await this.#find(diskId);
    if (found && this.dead.has(diskId)) throw new LaminaError('engine-dead', `${diskId} is dead`);
    if (found) return found;
    truncateSync(this.file(diskId), sizeBytes);
    losetup('--find', '--direct-io=on', this.file(diskId));
    return this.attach(diskId);
  }

  async detach(diskId: string): Promise<void> {
    this.disk(diskId);
    const found = await this.#find(diskId);
    if (found) {
      await claimUnused(found.path, { flush: true });
      // Gone when this returns, even where another test has just looked at all devices of the machine.
      await removeLoopDevice(found.path);
    }
    this.dead.delete(diskId);
  }

  async attachment(diskId: string): Promise<Attachment | null> {
    this.disk(diskId);
    const device = await this.#find(diskId);
    return device === null ? null : { by: 'loop', device, state: this.#state(diskId) };
  }

  async growDevice(diskId: string): Promise<void> {
    const device = await this.#find(diskId);
    if (device) losetup('--set-capacity', device.path);
  }

  async recordFilesystem(diskId: string, filesystem: DiskRecord['filesystem']): Promise<void> {
    this.#write({ ...this.disk(diskId), filesystem });
  }

  async expectWrites(): Promise<void> {}

  writtenExtents(diskId: string): AsyncIterable<Extent> {
    return dataExtents(this.file(diskId), { fromBytes: 0, leastHoleBytes: 0 });
  }

  isThick(diskId: string): boolean {
    return this.disk(diskId).options.preallocation === 'falloc';
  }

  #state(diskId: string): Attachment['state'] {
    if (this.dead.has(diskId)) return 'dead';
    return this.unresponsive.has(diskId) ? 'unresponsive' : 'healthy';
  }

  async #find(diskId: string): Promise<BlockDevice | null> {
    const device = losetup('--noheadings', '--output', 'NAME', '--associated', this.file(diskId)).trim();
    return device === '' ? null : { path: device, ...(await blockDeviceNumber(device)) };
  }

  #recordFile(diskId: string): string {
    return path.join(this.directory, `${diskId}.json`);
  }

  #write(record: DiskRecord): void {
    writeFileSync(this.#recordFile(record.id), JSON.stringify(record));
  }
}

function losetup(...args: string[]): string {
  return execFileSync('losetup', args, { encoding: 'utf8' });
}
