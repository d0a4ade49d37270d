import type { Clock } from '../../lib/clock.ts';
import { isLaminaError } from '../../lib/errors.ts';
import type { TokenBucket } from '../../lib/token-bucket.ts';
import type { Pool } from '../../store/pool.ts';
import type { SpaceGuard } from '../../store/space.ts';
import type { LayerDescription } from './chain-description.ts';
import { commitBytes, discardLayer, IncomingLayer } from './incoming-layer.ts';
import { FrameParser } from './layer-frames.ts';
import { layerFrames } from './layer-stream.ts';
import type { PeerConnection } from './peer.ts';
import { persist } from '../persist.ts';
import { poolFull } from '../pool-full.ts';
import type { TransferStep } from './steps.ts';

export interface DownloadContext {
  pool: Pool;
  space: SpaceGuard;
  /** Bounds all transfers into this node together. */
  limit: TokenBucket;
  clock: Clock;
  checkpoint: (step: TransferStep) => void;
}

export interface Download {
  connection: PeerConnection;
  /** The pool's name at the peer. */
  sourcePool: string;
  layer: LayerDescription;
  /** Bytes of data that are there, those of an earlier attempt included. */
  onProgress: (receivedBytes: number) => void;
}

/**
 * Brings the file of a layer into the pool's `incoming`, whole and checked against the digests sent with it. Goes on
 * after a broken connection, and where an earlier process stopped. Where the pool is full, what has come is removed.
 *
 * @throws LaminaError `pool-full`, `layer-changed`, `layer-not-found`, `peer-unavailable`, `peer-untrusted`, `peer-invalid`
 */
export async function downloadLayer(context: DownloadContext, download: Download): Promise<void> {
  const { pool, space, checkpoint } = context;
  const { layer } = download;
  try {
    const incoming = await IncomingLayer.open(pool, layer, () => checkpoint('fetch-layers/layer-progressed'));
    try {
      checkpoint('fetch-layers/layer-begun');
      const missing = Math.max(0, layer.allocatedBytes - (await incoming.allocatedBytes()));
      if (!incoming.complete) {
        await space.assertRoom(missing);
        await receiveAll(context, download, incoming);
      }
    } finally {
      await incoming.close();
    }
  } catch (error) {
    const failure = poolFull(error, pool, `layer ${layer.id}`) ?? error;
    if (isLaminaError(failure, 'pool-full', 'peer-invalid')) await discardLayer(pool, layer.id);
    throw failure;
  }
  checkpoint('fetch-layers/layer-complete');
}

async function receiveAll(context: DownloadContext, download: Download, incoming: IncomingLayer): Promise<void> {
  const persistence = {
    clock: context.clock,
    signal: download.connection.signal,
    passes: (error: unknown) => isLaminaError(error, 'peer-unavailable'),
    offsetBytes: () => incoming.offsetBytes,
  };
  while (!incoming.complete) await persist(persistence, () => receive(context, download, incoming));
}

/** Over one connection, to its end or as far as it goes. */
async function receive(
  { space, limit }: DownloadContext,
  { connection, sourcePool, layer, onProgress }: Download,
  incoming: IncomingLayer,
): Promise<void> {
  const { id, etag, fileSizeBytes } = layer;
  const parser = new FrameParser(incoming.framePool, incoming.offsetBytes, fileSizeBytes);
  const request = { pool: sourcePool, id, etag, from: incoming.offsetBytes };
  let received = await incoming.allocatedBytes();
  onProgress(received);
  for await (const frame of layerFrames(connection, request, parser)) {
    await limit.take(frame.data.length, connection.signal);
    if (frame.kind === 'end') return incoming.finish();
    if (await incoming.write(frame)) await space.assertRoom(commitBytes);
    received += frame.data.length;
    onProgress(received);
  }
}
