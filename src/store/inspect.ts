import { stat } from 'node:fs/promises';
import path from 'node:path';
import type * as z from 'zod';
import { errnoOf, ifErrno, LaminaError } from '../lib/errors.ts';
import { readRecord } from '../lib/fs-records.ts';
import { type Findings, type Leftover, noting, type Problem } from './findings.ts';
import { childrenOf, namedLayers, unreferencedLayers } from './graph.ts';
import { inspectLayer } from './inspect-layer.ts';
import type { PoolLayout } from './layout.ts';
import { exists, listNames, type PoolContents } from './pool.ts';
import {
  diskRecordSchema,
  type DiskId,
  imageRecordSchema,
  layerIdSchema,
  layerRecordSchema,
  type LayerId,
  type LayerRecord,
  type PoolRecord,
  poolRecordSchema,
  recordVersion,
  snapshotRecordSchema,
} from './records.ts';

export interface Inspection extends Findings {
  contents: PoolContents;
}

/** @throws LaminaError `pool-foreign` where `pool.json` is missing, or as readRecord */
export async function readPoolRecord(layout: PoolLayout): Promise<PoolRecord> {
  try {
    return await readRecord(layout.poolRecord, recordVersion, poolRecordSchema);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new LaminaError('pool-foreign', `${layout.root} is not a pool: it has no pool.json`, { cause: error });
  }
}

/** Reads a whole pool without changing it: every record against the files, the headers and the other records. */
export async function inspectPool(layout: PoolLayout): Promise<Inspection> {
  const problems: Problem[] = [];
  const leftovers: Leftover[] = [];
  const foreign: string[] = [];
  const pool = await readPoolRecord(layout);
  // Names first, layers last: in a pool that is served meanwhile, a name's layer is then already there.
  const disks = await readAll(layout.disks, diskRecordSchema, problems);
  const snapshots = await readAll(layout.snapshots, snapshotRecordSchema, problems);
  const images = await readAll(layout.images, imageRecordSchema, problems);
  const layers = await readLayers(layout, problems);
  const contents = { pool, layers, disks, snapshots, images };
  problems.push(...(await missingDirectories(layout)), ...brokenReferences(layout, contents));
  for (const layer of layers.values()) await inspectLayer(layout, contents, layer, { problems, leftovers, foreign });
  return { contents, problems, leftovers, foreign };
}

/**
 * Every pool has these, be they empty. Where one went away, in a copy that leaves empty directories out or otherwise, what
 * its records named would be taken for what nobody names, and be collected.
 */
async function missingDirectories(layout: PoolLayout): Promise<Problem[]> {
  const { layers, disks, snapshots, images, incoming } = layout;
  // Pools made before there were images have neither of the two.
  const hasImages = await exists(incoming);
  const problems: Problem[] = [];
  for (const file of [layers, disks, snapshots, ...(hasImages ? [images] : [])]) {
    if (await exists(file)) continue;
    const message = `${file} is missing: restore it from a backup, or make it (mkdir) where it was empty`;
    problems.push({ code: 'graph-corrupt', file, message });
  }
  return problems;
}

async function readAll<T extends { id: string }>(
  directory: string,
  schema: z.ZodType<T>,
  problems: Problem[],
): Promise<Map<T['id'], T>> {
  const records = new Map<T['id'], T>();
  for (const name of await listNames(directory)) {
    const file = path.join(directory, name);
    if (!name.endsWith('.json')) {
      problems.push({ code: 'pool-foreign', file, message: `${file} is none of Lamina's records: move it away` });
      continue;
    }
    await noting(problems, file, async () => {
      const record = await readRecord(file, recordVersion, schema);
      if (name !== `${record.id}.json`)
        throw new LaminaError('record-corrupt', `${file} is the record of ${record.id}`);
      records.set(record.id, record);
    });
  }
  return records;
}

async function readLayers(layout: PoolLayout, problems: Problem[]): Promise<Map<LayerId, LayerRecord>> {
  const layers = new Map<LayerId, LayerRecord>();
  for (const name of await listNames(layout.layers)) {
    const id = layerIdSchema.safeParse(name);
    if (!id.success) {
      const file = path.join(layout.layers, name);
      problems.push({ code: 'pool-foreign', file, message: `${file} is none of Lamina's layers: move it away` });
      continue;
    }
    const file = layout.layerRecord(id.data);
    await noting(problems, file, async () => {
      const record = await readRecord(file, recordVersion, layerRecordSchema);
      if (record.id !== id.data) throw new LaminaError('record-corrupt', `${file} is the record of ${record.id}`);
      layers.set(record.id, record);
    });
  }
  return layers;
}

function brokenReferences(layout: PoolLayout, contents: PoolContents): Problem[] {
  const { layers, disks } = contents;
  const problems: Problem[] = [];
  const report = (file: string, message: string) => problems.push({ code: 'graph-corrupt', file, message });
  const headOf = new Map<LayerId, DiskId>();
  // An overlay that nothing names yet is what an interrupted snapshot left, and collected: nobody relies on it.
  const unnamed = new Set(unreferencedLayers(layers, namedLayers(contents)));
  const named = new Map([...layers].filter(([id]) => !unnamed.has(id)));
  const children = childrenOf(named);
  for (const disk of disks.values()) {
    const file = layout.disk(disk.id);
    if (!layers.has(disk.head)) report(file, `${file} names the layer ${disk.head}, which is not there or damaged`);
    const other = headOf.get(disk.head);
    if (other) report(file, `${file} has the same head layer as disk ${other}`);
    headOf.set(disk.head, disk.id);
    if (children.has(disk.head)) report(file, `${file} writes to the layer ${disk.head}, which others rely on`);
    if (layers.get(disk.head)?.sealed) report(file, `${file} writes to the layer ${disk.head}, which is sealed`);
  }
  for (const { file, layer, settled } of namesOfSealed(layout, contents)) {
    if (!layers.has(layer)) report(file, `${file} names the layer ${layer}, which is not there or damaged`);
    if (settled && headOf.has(layer)) report(file, `${file} names the layer ${layer}, which a disk writes to`);
  }
  for (const layer of layers.values()) {
    const file = layout.layerRecord(layer.id);
    if (layer.parent && !layers.has(layer.parent))
      report(file, `${file} names the backing layer ${layer.parent}, which is not there or damaged`);
    if (reachesItself(layers, layer)) report(file, `${file} is part of a cycle of backing layers`);
    if (layer.parent && layer.format === 'raw') report(file, `${file} is raw and has a backing layer`);
  }
  return problems;
}

/** Snapshots and images; what is not settled may still name the layer that its disk writes to. */
function namesOfSealed(layout: PoolLayout, { disks, snapshots, images }: PoolContents) {
  return [
    ...[...snapshots.values()].map(({ id, layer, state, disk }) => {
      return { file: layout.snapshot(id), layer, settled: state === 'ready' || !disks.has(disk) };
    }),
    ...[...images.values()].map(({ id, layer }) => ({ file: layout.image(id), layer, settled: true })),
  ];
}

function reachesItself(layers: ReadonlyMap<LayerId, LayerRecord>, start: LayerRecord): boolean {
  const seen = new Set<LayerId>();
  for (let id = start.parent; id !== null && !seen.has(id); id = layers.get(id)?.parent ?? null) {
    if (id === start.id) return true;
    seen.add(id);
  }
  return false;
}

/** What the pool directory holds besides ours, or undefined where there is no such directory. */
export async function foreignNames(layout: PoolLayout): Promise<string[] | undefined> {
  const files = ['pool.json', 'cluster.json', 'pool.lock', 'ballast', 'lost+found'];
  const own = [...files, 'layers', 'disks', 'snapshots', 'images', 'incoming', 'tmp', 'set-aside'];
  const there = await stat(layout.root).catch(ifErrno('ENOENT', null));
  if (!there?.isDirectory()) return undefined;
  return (await listNames(layout.root)).filter((name) => !own.includes(name));
}
