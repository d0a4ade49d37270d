import { isDeepStrictEqual } from 'node:util';
import { annotations, finalizers } from '../../api/names.ts';
import type { DiskImageManifest } from '../../api/objects.ts';
import type { CreateDiskRequest, DiskOptions, Placement } from '../../csi/controller/disk-service.ts';
import { refOf } from '../../kube/objects.ts';
import { LaminaError } from '../../lib/errors.ts';
import { formatQuantity } from '../../lib/quantity.ts';
import { isWithin } from '../../store/create-disk.ts';
import type { DiskImage } from '../../api/objects.ts';

type Wish = Omit<DiskImageManifest, 'apiVersion' | 'kind'>;

/** The DiskImage of a volume. */
export function diskImageOf(
  ref: { namespace: string; name: string },
  { name, options, source }: CreateDiskRequest,
  { pool, claim }: Placement,
  { sizeBytes, nodeName }: { sizeBytes: number; nodeName: string },
): Wish {
  const { format, preallocation, liveSnapshots } = options;
  return {
    metadata: {
      ...ref,
      annotations: { [annotations.csiName]: name, ...(claim ? { [annotations.claim]: claim } : {}) },
      finalizers: [finalizers.disk],
    },
    spec: {
      size: formatQuantity(sizeBytes),
      format,
      preallocation,
      liveSnapshots,
      ...clusterSizeOf(options),
      pool,
      nodeName,
      source: sourceOf(source),
    },
  };
}

type ClusterSize = NonNullable<Wish['spec']['clusterSize']>;

/** The parameter is a power of two from 4Ki to 2Mi, and so is each value of the field. */
function clusterSizeOf({ clusterSizeBytes }: DiskOptions): { clusterSize?: ClusterSize } {
  return clusterSizeBytes === null ? {} : { clusterSize: formatQuantity(clusterSizeBytes) as ClusterSize };
}

function sourceOf(source: CreateDiskRequest['source']): NonNullable<Wish['spec']['source']> {
  if (source === null) return { type: 'blank' };
  switch (source.kind) {
    case 'disk':
      return { type: 'diskImage', diskImage: { name: source.id } };
    case 'image':
      return { type: 'diskImage', diskImage: refOf(source.id) };
    case 'snapshot':
      return { type: 'diskSnapshot', diskSnapshot: { name: source.id } };
  }
}

/** Whether a DiskImage that is there is what is asked for again. @throws LaminaError `name-taken` that says what differs */
export function assertSameWish(image: DiskImage, request: CreateDiskRequest, { pool }: Placement): void {
  const { spec, metadata } = image;
  const size = spec.size ?? 0;
  const { clusterSize } = clusterSizeOf(request.options);
  const source = sourceOf(request.source);
  const differences = [
    metadata.annotations[annotations.csiName] === request.name ? [] : 'it was not made by that name',
    isWithin(size, request.size) ? [] : `it has ${size} bytes`,
    spec.format === request.options.format ? [] : `its format is ${spec.format}`,
    spec.preallocation === request.options.preallocation ? [] : `its preallocation is ${spec.preallocation}`,
    spec.clusterSize === clusterSize ? [] : `its clusterSize is ${spec.clusterSize ?? 'the default'}`,
    spec.pool === pool ? [] : `it is in the pool ${spec.pool}`,
    isDeepStrictEqual(spec.source, source) ? [] : `its source is ${JSON.stringify(spec.source)}`,
  ].flat();
  if (differences.length === 0) return;
  throw new LaminaError('name-taken', `a volume named ${request.name} exists, but ${differences.join(', ')}`);
}
