import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { KiB } from '../../lib/bytes.ts';
import { type ChainServer, serveChain } from '../../qemu/chain-server.ts';
import { dataExtents } from '../../qemu/data-extents.ts';
import type { Pool } from '../../store/pool.ts';
import type { Format, LayerId } from '../../store/records.ts';
import { ClusterSet } from './cluster-set.ts';
import { clusterBitsFor, Qcow2View, type ViewPart } from './qcow2-view.ts';

const readBytes = 256 * KiB;
const readsAhead = 3;

/** What the chain of a sealed layer reads as, as one file of which any part can be had at any time. */
export interface DiskExport {
  sizeBytes: number;
  /** The same for the same bytes. */
  etag: string;
  /** The bytes from `start` up to `end`, in pieces. */
  read(start: number, end: number): AsyncGenerator<Buffer>;
  close(): Promise<void>;
}

/**
 * Opens a layer as a raw or QCOW2 file without backing file. Neither is made anywhere: a storage daemon reads the chain,
 * and the metadata of QCOW2 is made as it is asked for, so that there is nothing to wait for, to find room for or to
 * remove. The layers stay as they are until it is closed.
 *
 * @param directory where the daemon's socket can be, for a short path
 */
export async function openDiskExport(
  pool: Pool,
  layer: LayerId,
  { format, directory }: { format: Format; directory: string },
): Promise<DiskExport> {
  const unpin = pool.pin([layer]);
  const release = async () => {
    unpin();
    await pool.collect();
  };
  try {
    const server = await serveLayer(pool, layer, directory);
    const close = async () => {
      await server.stop();
      await release();
    };
    try {
      const content = format === 'raw' ? rawExport(server, layer) : await qcow2Export(server, layer);
      return { ...content, close };
    } catch (error) {
      await server.stop();
      throw error;
    }
  } catch (error) {
    await release();
    throw error;
  }
}

/** Once it runs, the daemon has all files open; until then none of them may be merged into another. */
async function serveLayer(pool: Pool, layer: LayerId, parent: string): Promise<ChainServer> {
  const chain = pool.chain(layer);
  const directory = await mkdtemp(path.join(parent, 'export-'));
  const remove = () => rm(directory, { recursive: true, force: true });
  const nodes = chain.map(({ id, format, path: file }, index) => {
    return { nodeName: id, format, path: file, readOnly: true, backing: chain[index + 1]?.id ?? null };
  });
  const ids = chain.map(({ id }) => id);
  const server = await pool
    .withPins(ids, () => serveChain(nodes, path.join(directory, 's')))
    .catch(async (error: unknown) => {
      await remove();
      throw error;
    });
  const stop = async () => {
    await server.stop();
    await remove();
  };
  return { ...server, stop };
}

type Content = Omit<DiskExport, 'close'>;

function rawExport({ client }: ChainServer, layer: LayerId): Content {
  const { sizeBytes } = client;
  const read = (start: number, end: number) => fewAtOnce(reads(start, end));
  function* reads(start: number, end: number) {
    for (let at = start; at < end; at += readBytes) yield () => client.read(at, Math.min(readBytes, end - at));
  }
  return { sizeBytes, etag: `${layer}-raw`, read };
}

async function qcow2Export({ client, url }: ChainServer, layer: LayerId): Promise<Content> {
  const { sizeBytes } = client;
  const clusterBytes = 2 ** clusterBitsFor(sizeBytes);
  const data = await ClusterSet.from(Math.ceil(sizeBytes / clusterBytes), clustersWithData(url, clusterBytes));
  const view = new Qcow2View(sizeBytes, data);
  const read = (start: number, end: number) => fewAtOnce(reads(start, end));
  function* reads(start: number, end: number) {
    for (const part of joined(view.parts(start, end)))
      yield async () => (part.kind === 'metadata' ? part.bytes : readDisk(part));
  }
  const readDisk = async ({ offset, length }: { offset: number; length: number }) => {
    // The last cluster may go beyond the end of the disk.
    const inside = Math.max(0, Math.min(length, sizeBytes - offset));
    const bytes = inside > 0 ? await client.read(offset, inside) : Buffer.alloc(0);
    return inside === length ? bytes : Buffer.concat([bytes, Buffer.alloc(length - inside)]);
  };
  // Compaction does not change what a layer reads as, but may change which zeroes are stored.
  const digest = createHash('sha256').update(data.bytes).digest('hex').slice(0, 16);
  return { sizeBytes: view.sizeBytes, etag: `${layer}-qcow2-${digest}`, read };
}

async function* clustersWithData(url: string, clusterBytes: number) {
  for await (const { start, length } of dataExtents(url, { fromBytes: 0, leastHoleBytes: clusterBytes })) {
    const first = Math.floor(start / clusterBytes);
    yield { first, count: Math.ceil((start + length) / clusterBytes) - first };
  }
}

/** Reads what is next to each other in one go. */
function* joined(parts: Iterable<ViewPart>): Generator<ViewPart> {
  let waiting: Extract<ViewPart, { kind: 'disk' }> | undefined;
  for (const part of parts) {
    const follows = waiting && part.kind === 'disk' && part.offset === waiting.offset + waiting.length;
    if (waiting && follows && waiting.length + part.length <= readBytes) {
      waiting = { ...waiting, length: waiting.length + part.length };
      continue;
    }
    if (waiting) yield waiting;
    waiting = part.kind === 'disk' ? part : undefined;
    if (part.kind === 'metadata') yield part;
  }
  if (waiting) yield waiting;
}

/** Runs some reads ahead, and gives what they bring in their order. */
async function* fewAtOnce(reads: Iterable<() => Promise<Buffer>>): AsyncGenerator<Buffer> {
  const running: Promise<Buffer>[] = [];
  for (const read of reads) {
    const reading = read();
    // Told when it is its turn.
    reading.catch(() => {});
    running.push(reading);
    if (running.length > readsAhead) yield (await running.shift()) as Buffer;
  }
  for (const reading of running) yield reading;
}
