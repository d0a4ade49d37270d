import * as z from 'zod';
import { GiB } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { maximumSizeBytes } from '../../store/create-disk.ts';
import { diskRecordSchema, formats, imageRecordSchema, layerIdSchema } from '../../store/records.ts';

export const descriptionVersion = 1;

/** What can be asked for by name. */
export const sealedKinds = ['snapshot', 'image'] as const;
export type SealedKind = (typeof sealedKinds)[number];

const size = z.int().positive().max(maximumSizeBytes);
/** Longer ones are merged by compaction; this only bounds what a peer can make us do. */
const maxLayers = 1000;

export const layerDescriptionSchema = z.strictObject({
  id: layerIdSchema.regex(/^l[0-9a-f]{24}$/, 'is no id that a pool gives a layer'),
  /** What the file's own header says: compaction may have put another file in the place of an earlier one. */
  parent: layerIdSchema.nullable(),
  format: z.enum(formats),
  virtualSizeBytes: size,
  fileSizeBytes: z.int().positive(),
  /** What the file occupies where it is. */
  allocatedBytes: z.int().nonnegative(),
  /** Names just this file of the layer; every other one reads the same, but may have another parent. */
  etag: z.string().regex(/^[0-9a-f]{1,64}$/),
  createdAt: z.iso.datetime(),
});
export type LayerDescription = z.infer<typeof layerDescriptionSchema>;

/** A snapshot or an image, with the layers it consists of, head first. */
export const chainDescriptionSchema = z.strictObject({
  version: z.literal(descriptionVersion),
  kind: z.enum(sealedKinds),
  id: z.string().min(1),
  name: z.string().min(1),
  sizeBytes: size,
  filesystem: diskRecordSchema.shape.filesystem,
  /** Of what an image was imported from; null for a snapshot. */
  digest: imageRecordSchema.shape.digest,
  layers: z.array(layerDescriptionSchema).min(1).max(maxLayers),
});
export type ChainDescription = z.infer<typeof chainDescriptionSchema>;

/**
 * Reads what a peer says about a chain; trusts nothing of it that later steps rely on.
 * @throws LaminaError `peer-invalid`
 */
export function parseChainDescription(json: unknown): ChainDescription {
  const parsed = chainDescriptionSchema.safeParse(json);
  if (!parsed.success) throw invalid(z.prettifyError(parsed.error).replaceAll('\n', ' '));
  const { layers } = parsed.data;
  if (new Set(layers.map(({ id }) => id)).size < layers.length) throw invalid('a layer twice');
  for (const [index, layer] of layers.entries()) {
    const below = layers[index + 1];
    if (layer.parent !== (below?.id ?? null)) throw invalid(`layer ${layer.id} on ${layer.parent}, not on the next`);
    if (layer.format === 'raw' && below) throw invalid(`the raw layer ${layer.id} on another`);
    if (layer.format === 'raw' && layer.fileSizeBytes !== layer.virtualSizeBytes)
      throw invalid(`the raw layer ${layer.id} with ${layer.fileSizeBytes} of ${layer.virtualSizeBytes} bytes`);
    if (layer.fileSizeBytes > maxFileBytes(layer.virtualSizeBytes))
      throw invalid(`layer ${layer.id} with a file of ${layer.fileSizeBytes} bytes for ${layer.virtualSizeBytes}`);
  }
  return parsed.data;
}

/** Of a layer's file: more than the metadata of the smallest clusters and what was freed and not used again ever take. */
export function maxFileBytes(virtualSizeBytes: number): number {
  return 2 * virtualSizeBytes + GiB;
}

function invalid(what: string): LaminaError {
  return new LaminaError('peer-invalid', `the peer describes a chain that cannot be: ${what}`);
}
