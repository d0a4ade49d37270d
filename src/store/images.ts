import { roundUp } from '../lib/bytes.ts';
import { sizeUnit } from './create-disk.ts';
import { type NewLayer, withNewLayer } from './layers.ts';
import type { Pool } from './pool.ts';
import { type ImageId, type ImageRecord, type LayerId, recordVersion } from './records.ts';

/** What an image is called, and what is known of its content. */
export interface ImageFacts {
  id: ImageId;
  /** The name the caller gave, of which `id` is derived. */
  name: string;
  filesystem: ImageRecord['filesystem'];
  /** `sha256:…` of what was imported, or null. */
  digest: string | null;
}

/**
 * Publishes a sealed layer and records it as an image. Killed before the record is there, the layer is collected.
 * @throws LaminaError `pool-full`, and what building the layer throws
 */
export async function createImage(pool: Pool, facts: ImageFacts, layer: NewLayer): Promise<ImageRecord> {
  const onBuilt = () => pool.checkpoint('create-image/layer-built');
  return withNewLayer(pool, { ...layer, sealed: true, onBuilt }, async ({ id }) => {
    pool.checkpoint('create-image/layer-published');
    const image = await recordImage(pool, facts, id);
    pool.checkpoint('create-image/image-recorded');
    return image;
  });
}

/** Gives a sealed layer one more name, as an image. The layer is pinned or named by the caller. */
export async function recordImage(pool: Pool, facts: ImageFacts, layer: LayerId): Promise<ImageRecord> {
  const image: ImageRecord = {
    version: recordVersion,
    id: facts.id,
    name: facts.name,
    layer,
    sizeBytes: roundUp(pool.layer(layer).virtualSizeBytes, sizeUnit),
    filesystem: facts.filesystem,
    digest: facts.digest,
    createdAt: new Date().toISOString(),
  };
  await pool.putImage(image);
  return image;
}
