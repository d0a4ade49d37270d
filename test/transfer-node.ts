import { mkdirSync } from 'node:fs';
import { type Clock, systemClock } from '../src/lib/clock.ts';
import { TokenBucket } from '../src/lib/token-bucket.ts';
import { recordVersion, type SnapshotRecord } from '../src/store/records.ts';
import { SpaceGuard } from '../src/store/space.ts';
import type { Credentials } from '../src/transfer/identity/credentials.ts';
import { type FetchedContent, type FetchRequest, LayerReceiver } from '../src/transfer/layers/layer-receiver.ts';
import { LayerServer } from '../src/transfer/layers/layer-server.ts';
import type { Peer } from '../src/transfer/layers/peer.ts';
import type { TransferStep } from '../src/transfer/layers/steps.ts';
import { type DetachedPool, openDetachedPool } from './detached-pool.ts';
import { MemoryLogger } from './fakes/memory-logger.ts';

/** The name that each node's pool has. */
export const poolName = 'fast';

/** A node as far as transfers go: a pool, what serves it to others, and what fetches from them. */
export interface TransferNode extends DetachedPool {
  peer: Peer;
  server: LayerServer;
  receiver: LayerReceiver;
  log: MemoryLogger;
  sendLimit: TokenBucket;
  receiveLimit: TokenBucket;
  close: () => Promise<void>;
}

export interface NodeOptions {
  directory: string;
  name: string;
  credentials: Credentials;
  port?: number;
  /** Long by default: nothing comes for seconds where the machine is busy with something else. */
  stallMs?: number;
  /** What rates are measured by. */
  rateClock?: Clock;
  criticalFraction?: number;
  checkpoint?: (step: TransferStep) => void;
}

export async function openTransferNode(options: NodeOptions): Promise<TransferNode> {
  const { directory, name, credentials, port = 0, stallMs = 60_000, criticalFraction = 0 } = options;
  mkdirSync(directory, { recursive: true });
  const opened = await openDetachedPool(directory);
  const { pool } = opened;
  const log = new MemoryLogger();
  const { rateClock = systemClock } = options;
  const sendLimit = new TokenBucket(Number.POSITIVE_INFINITY, rateClock);
  const receiveLimit = new TokenBucket(Number.POSITIVE_INFINITY, rateClock);
  const byName = (wanted: string) => (wanted === poolName ? pool : undefined);
  const server = new LayerServer({
    begin: () => ({ addBytes: () => {}, end: () => {} }),
    credentials,
    pool: byName,
    limit: sendLimit,
    onReleased: opened.compactor.wake,
    logger: log,
  });
  const address = await server.listen(port, '127.0.0.1');
  const receiver = new LayerReceiver({
    begin: () => ({ addBytes: () => {}, end: () => {} }),
    pool,
    space: new SpaceGuard(pool, { reservedFraction: 0, overcommit: 1e6, criticalFraction }),
    limit: receiveLimit,
    clock: systemClock,
    checkpoint: options.checkpoint ?? (() => {}),
    credentials: () => credentials,
    logger: log,
    stallMs,
  });
  const close = async () => {
    await server.close();
    await opened.compactor.stop();
    await opened.release();
  };
  const peer = { node: name, address: `127.0.0.1:${address.port}` };
  return { ...opened, peer, server, receiver, log, sendLimit, receiveLimit, close };
}

/** Fetches without giving it a name. */
export async function fetchUnnamed(
  peer: Peer,
  to: TransferNode,
  what: Pick<FetchRequest, 'kind' | 'id'>,
): Promise<FetchedContent> {
  const signal = new AbortController().signal;
  return to.receiver.fetch({ peer, pool: poolName, ...what, signal }, async (content) => content);
}

/** Fetches a snapshot of another node, and gives it the same name here. */
export async function fetchSnapshot(
  peer: Peer,
  to: TransferNode,
  id: string,
  options: Partial<FetchRequest> = {},
): Promise<SnapshotRecord> {
  const signal = new AbortController().signal;
  const request: FetchRequest = { peer, pool: poolName, kind: 'snapshot', id, signal, ...options };
  return to.receiver.fetch(request, async ({ layer, name, sizeBytes, filesystem }) => {
    const record: SnapshotRecord = {
      version: recordVersion,
      id: id as SnapshotRecord['id'],
      name,
      layer,
      disk: 'elsewhere' as SnapshotRecord['disk'],
      sizeBytes,
      filesystem,
      state: 'ready',
      transient: false,
      createdAt: new Date().toISOString(),
    };
    await to.pool.putSnapshot(record);
    return record;
  });
}
