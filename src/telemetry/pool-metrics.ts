import { type Read, type ReadingGauges, readingGauges } from './readings.ts';

/** One pool of this process. */
export interface PoolReading {
  pool: string;
  node: string;
  /** Of the file system. */
  sizeBytes: number;
  /** Free, less what is reserved. */
  freeBytes: number;
  /** With less free than this nothing starts that takes space. */
  criticalMarkBytes: number;
  /** Sum of the sizes of all disks. */
  provisionedBytes: number;
  /** What all image files occupy. */
  allocatedBytes: number;
  /** The biggest disk that would be taken on, without and with preallocation. */
  availableThinBytes: number;
  availableThickBytes: number;
  disks: number;
  /** Whose writes wait until there is room. */
  pausedDisks: number;
  snapshots: number;
  images: number;
  /** Disks, snapshots and images without an object in the cluster; none where there is no cluster. */
  orphans: number;
}

export interface PoolMetrics {
  readonly readPools: (read: Read<PoolReading>) => void;
}

const gauges: ReadingGauges<PoolReading, never>['gauges'] = {
  lamina_pool_size_bytes: {
    help: "Size of the pool's file system.",
    valueOf: ({ sizeBytes }) => sizeBytes,
  },
  lamina_pool_free_bytes: {
    help: "What is free of the pool's file system, less what is reserved.",
    valueOf: ({ freeBytes }) => freeBytes,
  },
  lamina_pool_critical_mark_bytes: {
    help: 'With less free space than this nothing starts that takes space.',
    valueOf: ({ criticalMarkBytes }) => criticalMarkBytes,
  },
  lamina_pool_provisioned_bytes: {
    help: 'Sum of the sizes of all disks: what was promised.',
    valueOf: ({ provisionedBytes }) => provisionedBytes,
  },
  lamina_pool_allocated_bytes: {
    help: 'What the image files occupy.',
    valueOf: ({ allocatedBytes }) => allocatedBytes,
  },
  lamina_pool_available_thin_bytes: {
    help: 'The biggest disk without preallocation that would be taken on.',
    valueOf: ({ availableThinBytes }) => availableThinBytes,
  },
  lamina_pool_available_thick_bytes: {
    help: 'The biggest disk with preallocation that would be taken on.',
    valueOf: ({ availableThickBytes }) => availableThickBytes,
  },
  lamina_pool_disks: { help: 'Disks in the pool.', valueOf: ({ disks }) => disks },
  lamina_pool_paused_disks: {
    help: 'Mounted disks whose writes wait, as the pool is nearly full.',
    valueOf: ({ pausedDisks }) => pausedDisks,
  },
  lamina_pool_snapshots: { help: 'Snapshots in the pool.', valueOf: ({ snapshots }) => snapshots },
  lamina_pool_images: { help: 'Images in the pool.', valueOf: ({ images }) => images },
};
const gaugesInCluster: typeof gauges = {
  ...gauges,
  lamina_pool_orphans: {
    help: 'What the pool holds without an object in the cluster.',
    valueOf: ({ orphans }) => orphans,
  },
};

export function poolMetrics(
  options: Pick<ReadingGauges<PoolReading, 'pool' | 'node'>, 'registry' | 'clock' | 'logger'> & { inCluster: boolean },
): PoolMetrics {
  return {
    readPools: readingGauges({
      ...options,
      labels: ['pool', 'node'],
      labelsOf: ({ pool, node }: PoolReading) => ({ pool, node }),
      gauges: options.inCluster ? gaugesInCluster : gauges,
    }),
  };
}
