import { request } from 'node:http';
import path from 'node:path';
import type { CreatedVolume, CsiClient } from '../csi-client.ts';
import type { Workspace } from '../workspace.ts';
import { fio } from './fio.ts';
import { MiB } from '../../src/lib/bytes.ts';
import type { Effort } from './options.ts';
import { formatTable, type Result } from './results.ts';

/** What every part of the benchmark has at hand. */
export interface Bench {
  csi: CsiClient;
  workspace: Workspace;
  effort: Effort;
  metricsSocket: string;
  hostPathPlugin: string | null;
  hostPathImage: string | null;
  say: (text: string) => void;
  /** Aborts when the benchmark is interrupted. */
  signal: AbortSignal;
}

let counter = 0;

/** A name nobody used yet. */
export function uniqueName(what: string): string {
  return `${what}-${++counter}`;
}

export async function createBlock(
  { csi }: Bench,
  name: string,
  sizeBytes: number,
  parameters: Record<string, string> = {},
): Promise<CreatedVolume> {
  return csi.createVolume({ name: uniqueName(name), sizeBytes, parameters, access: { kind: 'block' } });
}

/** Publishes a volume. @returns the device file, or the directory */
export function attach({ csi, workspace }: Bench, volume: CreatedVolume): Promise<string> {
  return csi.attach(volume, workspace.mounts);
}

export async function detach({ csi, workspace }: Bench, volume: CreatedVolume): Promise<void> {
  await csi.detach(volume.id, workspace.mounts);
}

export async function remove(bench: Bench, ...volumes: readonly CreatedVolume[]): Promise<void> {
  for (const volume of volumes) {
    await detach(bench, volume);
    await bench.csi.deleteVolume(volume.id);
  }
}

/** Writes all of the first `sizeBytes`, so that every cluster is allocated. */
export async function fill(file: string, sizeBytes: number): Promise<void> {
  await fio({ file, pattern: 'write', blockBytes: MiB, queueDepth: 8, sizeBytes });
}

/** @returns its result and how long it took, in ms */
export async function timed<T>(work: () => Promise<T>): Promise<{ value: T; ms: number }> {
  const start = performance.now();
  const value = await work();
  return { value, ms: performance.now() - start };
}

/** Runs each of `variants` once a round, in an order that changes, so that none always follows the same other one. */
export async function interleave<T>(rounds: number, variants: readonly (() => Promise<T>)[]): Promise<T[][]> {
  const results: T[][] = variants.map(() => []);
  for (let round = 0; round < rounds; round++) {
    const first = Math.floor(round / 2);
    const order = variants.map((_, index) => (index + first) % variants.length);
    for (const index of round % 2 === 0 ? order : order.toReversed()) {
      const value = await variants[index]?.();
      results[index]?.push(value as T);
    }
  }
  return results;
}

/** Measures one thing after the other. Where one fails, what was measured before it is told, as that took its time. */
export async function measureInTurn(
  measures: readonly (() => Promise<Result[]>)[],
  say: (text: string) => void,
): Promise<Result[]> {
  const results: Result[] = [];
  try {
    for (const measure of measures) results.push(...(await measure()));
  } catch (error) {
    if (results.length > 0) say(`measured before it failed:\n${formatTable(results)}`);
    throw error;
  }
  return results;
}

/** Current value of a metric without labels. */
export async function readMetric({ metricsSocket }: Bench, name: string): Promise<number> {
  const text = await new Promise<string>((resolve, reject) => {
    const get = request({ socketPath: metricsSocket, path: '/metrics' }, (response) => {
      response
        .setEncoding('utf8')
        .toArray()
        .then((chunks) => resolve(chunks.join('')), reject);
    });
    get.once('error', reject).end();
  });
  const value = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1];
  if (value === undefined) throw new Error(`the driver has no metric ${name}`);
  return Number(value);
}

export function fileIn({ workspace }: Bench, name: string): string {
  return path.join(workspace.directory, name);
}
