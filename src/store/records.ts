import * as z from 'zod';

/** Version of every record in a pool. Another version is refused, never guessed. */
export const recordVersion = 1;

const id = z.string().regex(/^[a-z0-9][a-z0-9.-]{0,127}$/, 'is no id of this pool');

export const layerIdSchema = id.brand<'LayerId'>();
export const diskIdSchema = id.brand<'DiskId'>();
export const snapshotIdSchema = id.brand<'SnapshotId'>();
export const imageIdSchema = id.brand<'ImageId'>();
export type LayerId = z.infer<typeof layerIdSchema>;
export type DiskId = z.infer<typeof diskIdSchema>;
export type SnapshotId = z.infer<typeof snapshotIdSchema>;
export type ImageId = z.infer<typeof imageIdSchema>;

const size = z.int().positive();
const created = z.iso.datetime();

export const formats = ['qcow2', 'raw'] as const;
export type Format = (typeof formats)[number];
export const preallocations = ['off', 'metadata', 'falloc', 'full'] as const;
export const filesystemTypes = ['ext4', 'xfs', 'btrfs'] as const;
export type FilesystemType = (typeof filesystemTypes)[number];

/** `pool.json`: says that a directory is a pool, and which one. */
export const poolRecordSchema = z.strictObject({
  version: z.literal(recordVersion),
  kind: z.literal('lamina-pool'),
  id: z.uuid(),
  createdAt: created,
});
export type PoolRecord = z.infer<typeof poolRecordSchema>;

/** `cluster.json`: which cluster's objects decide over the pool. */
export const clusterRecordSchema = z.strictObject({
  version: z.literal(recordVersion),
  cluster: z.string().min(1),
  claimedAt: created,
});
export type ClusterRecord = z.infer<typeof clusterRecordSchema>;

/** `layers/<id>/layer.json`: one image file. */
export const layerRecordSchema = z.strictObject({
  version: z.literal(recordVersion),
  id: layerIdSchema,
  /** The backing layer; null for the lowest of a chain. */
  parent: layerIdSchema.nullable(),
  format: z.enum(formats),
  virtualSizeBytes: size,
  /** Never written again once true. */
  sealed: z.boolean(),
  createdAt: created,
});
export type LayerRecord = z.infer<typeof layerRecordSchema>;

/** What a blank disk is made of; a disk that starts from a source shares its layers instead. */
export const diskOptionsSchema = z.strictObject({
  format: z.enum(formats),
  preallocation: z.enum(preallocations),
  /** qcow2 only. */
  clusterSizeBytes: size.nullable(),
  /** Attach raw disks through the engine, so that they can be snapshotted while attached. */
  liveSnapshots: z.boolean(),
});
export type DiskOptions = z.infer<typeof diskOptionsSchema>;

export const diskSourceSchema = z.strictObject({ kind: z.enum(['snapshot', 'disk', 'image']), id });
export type DiskSource = z.infer<typeof diskSourceSchema>;

/** `disks/<id>.json`: what a CSI volume is. */
export const diskRecordSchema = z.strictObject({
  version: z.literal(recordVersion),
  id: diskIdSchema,
  /** The name the caller gave, of which `id` is derived. */
  name: z.string().min(1),
  head: layerIdSchema,
  sizeBytes: size,
  options: diskOptionsSchema,
  source: diskSourceSchema.nullable(),
  /** The file system we made. `formatting` is written before mkfs starts, so that a half-made one is made again. */
  filesystem: z.strictObject({ type: z.enum(filesystemTypes), state: z.enum(['formatting', 'formatted']) }).nullable(),
  createdAt: created,
});
export type DiskRecord = z.infer<typeof diskRecordSchema>;

/** `snapshots/<id>.json`: a name for a sealed layer. */
export const snapshotRecordSchema = z.strictObject({
  version: z.literal(recordVersion),
  id: snapshotIdSchema,
  name: z.string().min(1),
  layer: layerIdSchema,
  /** The disk it was taken of, which may be gone by now. */
  disk: diskIdSchema,
  sizeBytes: size,
  /** The file system on it, as the disk's record said. */
  filesystem: diskRecordSchema.shape.filesystem,
  /** `pending` until the disk writes to another layer; only a ready snapshot is shown. */
  state: z.enum(['pending', 'ready']),
  /** Made on the way of a clone and removed with its end; never shown. */
  transient: z.boolean(),
  createdAt: created,
});
export type SnapshotRecord = z.infer<typeof snapshotRecordSchema>;

/** `images/<id>.json`: a name for a sealed layer that disks start from, imported or taken from a disk. */
export const imageRecordSchema = z.strictObject({
  version: z.literal(recordVersion),
  id: imageIdSchema,
  name: z.string().min(1),
  layer: layerIdSchema,
  /** What a disk that starts from it has at least: the layer's virtual size, rounded up to sizeUnit. */
  sizeBytes: size,
  /** The file system on it, as the record of the disk it was taken of said; null where nobody has looked. */
  filesystem: diskRecordSchema.shape.filesystem,
  /** `sha256:…` of what was imported; null for one that was taken from a disk. */
  digest: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/)
    .nullable(),
  createdAt: created,
});
export type ImageRecord = z.infer<typeof imageRecordSchema>;

/** One layer of a chain with the file it lives in. Chains are listed head first. */
export interface ChainLayer {
  id: LayerId;
  format: Format;
  /** Absolute path of the image file. */
  path: string;
  virtualSizeBytes: number;
}
