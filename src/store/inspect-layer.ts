import { lstat, stat } from 'node:fs/promises';
import path from 'node:path';
import { ifErrno, LaminaError } from '../lib/errors.ts';
import { reachesItsEnd } from '../qemu/qcow2-end.ts';
import { checkImage } from '../qemu/qemu-img.ts';
import { type Qcow2Header, readQcow2Header } from '../qemu/qcow2-header.ts';
import { type Findings, type Leftover, noting } from './findings.ts';
import { childrenOf } from './graph.ts';
import { backingPath, dataName, mergeName, type PoolLayout } from './layout.ts';
import { listNames, type PoolContents } from './pool.ts';
import type { LayerId, LayerRecord } from './records.ts';

/** Compares a layer's record with its directory, its file and, for qcow2, the file's header. */
export async function inspectLayer(
  layout: PoolLayout,
  contents: PoolContents,
  layer: LayerRecord,
  { problems, leftovers, foreign }: Findings,
): Promise<void> {
  const { id, format, sealed } = layer;
  for (const name of await listNames(layout.layer(id))) {
    if (name === 'layer.json' || name === dataName(format)) continue;
    const file = path.join(layout.layer(id), name);
    if (name === mergeName && (await isFile(file))) leftovers.push({ layer: id, kind: 'unfinished-merge', file });
    else foreign.push(file);
  }
  const file = layout.layerData(id, format);
  await noting(problems, file, async () => {
    await assertNotCutOff(file, layer);
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
  const named = [...contents.snapshots.values(), ...contents.images.values()].some(({ layer: name }) => name === id);
  if (!sealed && !heads && (named || childrenOf(contents.layers).has(id)))
    leftovers.push({ layer: id, kind: 'unsealed', file });
}

/** @throws LaminaError `layer-corrupt` for a header that none of ours has: QEMU would follow it elsewhere, or not open it */
export function assertOwnHeader(header: Qcow2Header, file: string): void {
  if (header.hasDataFile) throw changedFromOutside(file, 'has an external data file');
  if (header.encrypted) throw changedFromOutside(file, 'is encrypted');
  if (header.corrupt) throw changedFromOutside(file, 'is marked corrupt by QEMU');
}

/** Whether the header names exactly that layer as its backing file. */
export function namesBacking(header: Qcow2Header, backing: Pick<LayerRecord, 'id' | 'format'> | null): boolean {
  if (backing === null) return header.backingFile === null;
  return header.backingFile === backingPath(backing.id, backing.format) && header.backingFormat === backing.format;
}

/**
 * What is beyond the end of an image file reads as zeroes, without an error from anybody.
 *
 * @throws LaminaError `layer-corrupt` where a file is shorter than what was written to it
 */
export async function assertNotCutOff(
  file: string,
  { format, virtualSizeBytes }: Pick<LayerRecord, 'format' | 'virtualSizeBytes'>,
): Promise<void> {
  if (format === 'raw' ? (await rawSize(file)) >= virtualSizeBytes : await reachesItsEnd(file)) return;
  // Clusters may be counted that a daemon, when it was killed, had not come to write: only the whole check tells.
  if (format === 'qcow2' && (await checkImage(file)).result !== 'corrupt') return;
  throw changedFromOutside(file, 'is cut off');
}

function changedFromOutside(file: string, what: string): LaminaError {
  return new LaminaError(
    'layer-corrupt',
    `${file} ${what}: it was changed from outside and is not opened; restore it from a backup`,
  );
}

async function isFile(file: string): Promise<boolean> {
  // In a served pool a merge may just have come to its end.
  const found = await lstat(file).catch(ifErrno('ENOENT', null));
  return found?.isFile() ?? true;
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
  assertOwnHeader(header, file);
  const namesParent = (parent: LayerId | null) => {
    const backing = parent === null ? null : contents.layers.get(parent);
    return backing !== undefined && namesBacking(header, backing);
  };
  if (!namesParent(layer.parent)) {
    const grandparent = layer.parent ? contents.layers.get(layer.parent)?.parent : undefined;
    // Compaction had put the merged file in place and died before it wrote so.
    if (layer.sealed && grandparent !== undefined && namesParent(grandparent))
      leftovers.push({ layer: layer.id, kind: 'merged', file });
    else
      throw changedFromOutside(
        file,
        `names the backing file ${header.backingFile ?? '(none)'} where its record says ${layer.parent ?? '(none)'}`,
      );
  }
  return header.virtualSizeBytes;
}
