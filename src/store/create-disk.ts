import { LaminaError } from '../lib/errors.ts';
import { formatBytes, roundUp } from '../lib/bytes.ts';
import { blankLayer, overlayLayer, reflinkLayer, withNewLayer } from './layers.ts';
import type { Pool } from './pool.ts';
import {
  type DiskId,
  type DiskOptions,
  type DiskRecord,
  type DiskSource,
  type LayerId,
  recordVersion,
} from './records.ts';

/** Every size is a multiple of this: the unit of direct I/O on all devices, and of every file system's blocks. */
export const sizeUnit = 4096;
export const defaultSizeBytes = 1024 ** 3;
export const minimumSizeBytes = 1024 ** 2;
/** What ext4 with 4 KiB blocks can hold as one file. */
export const maximumSizeBytes = 16 * 1024 ** 4 - sizeUnit;

/** As in CSI: 0 is "not said". */
export interface SizeRange {
  requiredBytes: number;
  limitBytes: number;
}

/** Whether a disk of so many bytes is what the range asks for. */
export function isWithin(sizeBytes: number, { requiredBytes, limitBytes }: SizeRange): boolean {
  return sizeBytes >= requiredBytes && (limitBytes === 0 || sizeBytes <= limitBytes);
}

/** What a disk starts from: a sealed layer, and what is known of its content. */
export interface SourceContent {
  layer: LayerId;
  sizeBytes: number;
  filesystem: DiskRecord['filesystem'];
}

/**
 * The size for a disk: the required one, that of its source or, where it grows, its own, or the default, rounded up to
 * sizeUnit.
 *
 * @param whose whose size `sourceBytes` is, for the message
 * @throws LaminaError `size-out-of-range`
 */
export function chooseSize(range: SizeRange, sourceBytes: number, whose: 'source' | 'volume' = 'source'): number {
  const limit = Math.min(range.limitBytes || maximumSizeBytes, maximumSizeBytes);
  const unsaid = Math.floor(Math.min(defaultSizeBytes, limit) / sizeUnit) * sizeUnit;
  const wanted = Math.max(range.requiredBytes, sourceBytes) || unsaid;
  const size = roundUp(Math.max(wanted, minimumSizeBytes), sizeUnit);
  if (size > limit) {
    const source = sourceBytes > 0 ? ` (the ${whose} has ${formatBytes(sourceBytes)})` : '';
    throw new LaminaError(
      'size-out-of-range',
      `a disk of ${size} bytes would be needed${source}, but at most ${limit} are allowed; sizes are multiples of ${sizeUnit}`,
    );
  }
  return size;
}

/** Whether an existing disk is what the caller asks for again. @throws LaminaError `name-taken` that says what differs */
export function assertSameDisk(
  disk: DiskRecord,
  range: SizeRange,
  options: DiskOptions,
  source: { kind: string; id: string } | null,
): void {
  const differences: string[] = [];
  if (!isWithin(disk.sizeBytes, range)) {
    differences.push(`it has ${disk.sizeBytes} bytes`);
  }
  for (const key of ['format', 'preallocation', 'clusterSizeBytes'] as const) {
    if (disk.options[key] !== options[key]) differences.push(`its ${key} is ${disk.options[key]}`);
  }
  if (disk.source?.kind !== source?.kind || disk.source?.id !== source?.id) {
    differences.push(disk.source ? `its source is the ${disk.source.kind} ${disk.source.id}` : 'it has no source');
  }
  if (differences.length > 0) {
    throw new LaminaError('name-taken', `a disk named ${disk.name} exists, but ${differences.join(', ')}`);
  }
}

export interface NewDisk {
  id: DiskId;
  name: string;
  sizeBytes: number;
  options: DiskOptions;
  source: DiskSource | null;
  /** Told which file is written, for those who want to say how far it is. */
  onBuild?: ((file: string) => void) | undefined;
}

/** Makes the head layer and then the record of a new disk; `content` is pinned or named by the caller. */
export async function createDisk(pool: Pool, request: NewDisk, content: SourceContent | null): Promise<DiskRecord> {
  const { id, name, sizeBytes, options, source } = request;
  const layer = content ? layerFrom(pool, content, sizeBytes, options) : blankLayer(sizeBytes, options);
  const { build } = layer;
  layer.build = (file) => {
    request.onBuild?.(file);
    return build(file);
  };
  layer.onBuilt = () => pool.checkpoint('create-disk/head-built');
  return withNewLayer(pool, layer, async (head) => {
    pool.checkpoint('create-disk/head-published');
    const record: DiskRecord = {
      version: recordVersion,
      id,
      name,
      head: head.id,
      sizeBytes,
      options,
      source,
      filesystem: content?.filesystem ?? null,
      createdAt: new Date().toISOString(),
    };
    await pool.putDisk(record);
    pool.checkpoint('create-disk/disk-recorded');
    return record;
  });
}

/** In a blink at any size: extents are shared where the pool can, else the disk is an overlay, whatever its format. */
function layerFrom(pool: Pool, content: SourceContent, sizeBytes: number, options: DiskOptions) {
  const backing = pool.chainLayer(content.layer);
  if (backing.format === 'raw' && options.format === 'raw' && pool.reflink) {
    return reflinkLayer(backing, sizeBytes, false);
  }
  return overlayLayer(backing, sizeBytes, options.clusterSizeBytes);
}
