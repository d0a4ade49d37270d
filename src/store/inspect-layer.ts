import { stat } from 'node:fs/promises';
import path from 'node:path';
import { LaminaError } from '../lib/errors.ts';
import { readQcow2Header } from '../qemu/qcow2-header.ts';
import { type Findings, type Leftover, noting } from './findings.ts';
import { childrenOf } from './graph.ts';
import { backingPath, dataName, type PoolLayout } from './layout.ts';
import { listNames, type PoolContents } from './pool.ts';
import type { LayerId, LayerRecord } from './records.ts';

/** Compares a layer's record with its directory, its file and, for qcow2, the file's header. */
export async function inspectLayer(
  layout: PoolLayout,
  contents: PoolContents,
  layer: LayerRecord,
  { problems, leftovers }: Findings,
): Promise<void> {
  const { id, format, sealed } = layer;
  for (const name of await listNames(layout.layer(id))) {
    const file = path.join(layout.layer(id), name);
    if (name !== 'layer.json' && name !== dataName(format)) leftovers.push({ layer: id, kind: 'stray-file', file });
  }
  const file = layout.layerData(id, format);
  await noting(problems, file, async () => {
    const sizeBytes = await (format === 'raw' ? rawSize(file) : qcow2Size(contents, layer, file, leftovers));
    if (sizeBytes === layer.virtualSizeBytes) return;
    const wanted = `${layout.layerRecord(id)} says ${layer.virtualSizeBytes} bytes, ${file} has ${sizeBytes}`;
    if (sealed || sizeBytes < layer.virtualSizeBytes)
      throw new LaminaError(
        'layer-corrupt',
        `${wanted}: it was changed or cut off from outside; restore it from a backup`,
      );
    leftovers.push({ layer: id, kind: 'grown', sizeBytes, file });
  });
  const heads = [...contents.disks.values()].some((disk) => disk.head === id);
  const named = [...contents.snapshots.values()].some((snapshot) => snapshot.layer === id);
  if (!sealed && !heads && (named || childrenOf(contents.layers).has(id)))
    leftovers.push({ layer: id, kind: 'unsealed', file });
}

async function rawSize(file: string): Promise<number> {
  return (await stat(file)).size;
}

/** The image's own size, after its header was found to name the backing file that the record says, and nothing else. */
async function qcow2Size(
  contents: PoolContents,
  layer: LayerRecord,
  file: string,
  leftovers: Leftover[],
): Promise<number> {
  const header = await readQcow2Header(file);
  const refuse = (what: string) =>
    new LaminaError(
      'layer-corrupt',
      `${file} ${what}: it was changed from outside and is not opened; restore it from a backup`,
    );
  if (header.hasDataFile) throw refuse('has an external data file');
  if (header.encrypted) throw refuse('is encrypted');
  if (header.corrupt) throw refuse('is marked corrupt by QEMU');
  const namesParent = (parent: LayerId | null) => {
    const backing = parent ? contents.layers.get(parent) : undefined;
    if (parent === null) return header.backingFile === null;
    return (
      backing !== undefined &&
      header.backingFile === backingPath(parent, backing.format) &&
      header.backingFormat === backing.format
    );
  };
  if (!namesParent(layer.parent)) {
    const grandparent = layer.parent ? contents.layers.get(layer.parent)?.parent : undefined;
    // Compaction had put the merged file in place and died before it wrote so.
    if (layer.sealed && grandparent !== undefined && namesParent(grandparent))
      leftovers.push({ layer: layer.id, kind: 'merged', file });
    else
      throw refuse(
        `names the backing file ${header.backingFile ?? '(none)'} where its record says ${layer.parent ?? '(none)'}`,
      );
  }
  return header.virtualSizeBytes;
}
