import { stat } from 'node:fs/promises';
import type { Pool } from './pool.ts';

/** What all image files of a pool occupy, in bytes. */
export async function allocatedBytes({ layers, layout }: Pick<Pool, 'layers' | 'layout'>): Promise<number> {
  let bytes = 0;
  for (const { id, format } of layers.values()) {
    // A layer that is collected meanwhile takes nothing.
    const file = await stat(layout.layerData(id, format)).catch(() => null);
    bytes += (file?.blocks ?? 0) * 512;
  }
  return bytes;
}
