import { rename } from 'node:fs/promises';
import { pause } from '../../lib/clock.ts';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import { KeyedLock } from '../../lib/keyed-lock.ts';
import type { Logger } from '../../lib/logger.ts';
import { addingUp, observed, type UnderWay } from '../../lib/under-way.ts';
import { installLayer } from '../../store/layers.ts';
import type { LayerId } from '../../store/records.ts';
import type { ChainDescription, LayerDescription, SealedKind } from './chain-description.ts';
import type { Credentials } from '../identity/credentials.ts';
import { describeRemote } from './describe-remote.ts';
import { discardLayer, incomingFile, listIncomingLayers, readIncoming } from './incoming-layer.ts';
import { downloadLayer, type DownloadContext } from './layer-download.ts';
import type { Peer, PeerConnection } from './peer.ts';
import { SharedWork } from '../shared-work.ts';

/** How often compaction at the source may come in between before it is left to the caller to try again. */
const maxRounds = 10;
const roundPauseMs = 200;

export interface LayerReceiverOptions extends DownloadContext {
  /** As they are now: asked for at each connection. */
  credentials: () => Credentials;
  logger: Logger;
  /** Where nothing moves on a connection for so long, it is given up, and another made. */
  stallMs: number;
  /** Called for each layer that begins to be fetched. */
  begin: (kind: 'layer-fetch') => UnderWay;
}

export interface FetchRequest {
  peer: Peer;
  /** The pool's name at the peer. */
  pool: string;
  kind: SealedKind;
  id: string;
  signal: AbortSignal;
  onProgress?: (progress: FetchProgress) => void;
}

/** Of all layers that are fetched; the total is what they occupy at the source, so both are about right. */
export interface FetchProgress {
  receivedBytes: number;
  totalBytes: number;
}

/** What was fetched, for a record that names `layer`. */
export interface FetchedContent extends Pick<ChainDescription, 'name' | 'sizeBytes' | 'filesystem' | 'digest'> {
  layer: LayerId;
}

/**
 * Brings sealed layers of other nodes into a pool of this one. What lacks of a chain is fetched, each layer with the
 * parent it has at the source, and put in place from the bottom up when all of it has come. A layer that several chains
 * need is fetched once.
 */
export class LayerReceiver {
  readonly #options: LayerReceiverOptions;
  readonly #downloads = new SharedWork<number>();
  /** One for each layer: whoever downloads or installs it. */
  readonly #locks = new KeyedLock();

  constructor(options: LayerReceiverOptions) {
    this.#options = options;
  }

  /**
   * Fetches the layers of a snapshot or an image, and runs `use` with them, which makes a record name the uppermost.
   * Until then they are pinned, and afterwards collected where nothing names them.
   *
   * @throws LaminaError `snapshot-not-found`, `image-not-found`, `pool-full`, `peer-unavailable`, `peer-untrusted`, `peer-invalid`, and what
   *   `use` throws
   */
  async fetch<T>(request: FetchRequest, use: (content: FetchedContent) => Promise<T>): Promise<T> {
    const { clock } = this.#options;
    for (let round = 1; ; round++) {
      const chain = await describeRemote(this.#connection(request, request.signal), request);
      this.#options.checkpoint('fetch-layers/chain-described');
      const fetched = await this.#fetchChain(request, chain, use);
      if (fetched !== 'changed') return fetched.result;
      if (round === maxRounds) {
        throw new LaminaError('peer-unavailable', `the layers of ${request.kind} ${request.id} change all the time`);
      }
      await pause(clock, roundPauseMs * round, request.signal);
      request.signal.throwIfAborted();
    }
  }

  /** Removes what came of layers that nobody has gone on with since `before`. @returns their ids */
  async removeAbandoned(before: Date): Promise<LayerId[]> {
    const { pool } = this.#options;
    const removed: LayerId[] = [];
    for (const { id, changedAt } of await listIncomingLayers(pool)) {
      if (changedAt >= before || this.#locks.isHeld(id)) continue;
      await this.#locks.run(id, () => discardLayer(pool, id));
      removed.push(id);
    }
    return removed;
  }

  async #fetchChain<T>(
    request: FetchRequest,
    chain: ChainDescription,
    use: (content: FetchedContent) => Promise<T>,
  ): Promise<{ result: T } | 'changed'> {
    const { pool } = this.#options;
    const ids = chain.layers.map(({ id }) => id);
    try {
      return await pool.withPins(ids, async () => {
        const lacking = this.#lacking(chain);
        const installed = await this.#bring(request, lacking);
        if (!installed) return 'changed';
        this.#options.checkpoint('fetch-layers/fetched');
        const { name, sizeBytes, filesystem, digest } = chain;
        return { result: await use({ layer: ids[0] as LayerId, name, sizeBytes, filesystem, digest }) };
      });
    } finally {
      await pool.collect();
    }
  }

  /** Layers above the uppermost that is here already, the lowest first. @throws LaminaError `peer-invalid` */
  #lacking({ layers }: ChainDescription): LayerDescription[] {
    const { pool } = this.#options;
    const index = layers.findIndex(({ id }) => pool.layers.has(id));
    const base = layers[index];
    if (!base) return layers.toReversed();
    const here = pool.layer(base.id);
    if (!here.sealed || here.format !== base.format || here.virtualSizeBytes !== base.virtualSizeBytes) {
      throw new LaminaError('peer-invalid', `the peer describes layer ${base.id}, which is another one here`);
    }
    return layers.slice(0, index).toReversed();
  }

  /** @returns false where the source has another file for one of them by now */
  async #bring(request: FetchRequest, lacking: readonly LayerDescription[]): Promise<boolean> {
    const { pool, logger } = this.#options;
    try {
      await this.#downloadAll(request, lacking);
      for (const layer of lacking) await this.#locks.run(layer.id, () => this.#install(layer));
      return true;
    } catch (error) {
      if (isLaminaError(error, 'layer-changed', 'layer-not-found')) {
        logger.info({ id: request.id, error: error.message }, 'the source has changed; describing it anew');
        return false;
      }
      if (isLaminaError(error, 'pool-full')) {
        for (const { id } of lacking) if (!this.#locks.isHeld(id)) await discardLayer(pool, id);
      }
      throw error;
    }
  }

  async #downloadAll(request: FetchRequest, lacking: readonly LayerDescription[]): Promise<void> {
    const { signal, onProgress } = request;
    const totalBytes = lacking.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
    let before = 0;
    for (const layer of lacking) {
      const report = (bytes: number) =>
        onProgress?.({ receivedBytes: before + Math.min(bytes, layer.allocatedBytes), totalBytes });
      await this.#downloads.run(layer.id, { signal, onProgress: report }, (everybody) =>
        this.#locks.run(layer.id, () => this.#download(request, layer, everybody)),
      );
      before += layer.allocatedBytes;
      onProgress?.({ receivedBytes: before, totalBytes });
    }
  }

  async #download(
    request: FetchRequest,
    layer: LayerDescription,
    everybody: { signal: AbortSignal; onProgress: (bytes: number) => void },
  ): Promise<void> {
    const { pool, logger } = this.#options;
    if (pool.layers.has(layer.id)) return;
    const { signal, onProgress } = everybody;
    const connection = this.#connection(request, signal);
    logger.info({ layer: layer.id, peer: request.peer.node, bytes: layer.allocatedBytes }, 'fetching a layer');
    await observed(this.#options.begin('layer-fetch'), signal, (addBytes) => {
      const count = addingUp(addBytes);
      const tell = (bytes: number) => {
        count(bytes);
        onProgress(bytes);
      };
      return downloadLayer(this.#options, { connection, sourcePool: request.pool, layer, onProgress: tell });
    });
  }

  /** @throws LaminaError `layer-changed` where what came is another file of the layer, by another peer's description */
  async #install(layer: LayerDescription): Promise<void> {
    const { pool, checkpoint } = this.#options;
    const { id, parent, format, virtualSizeBytes, createdAt } = layer;
    if (!pool.layers.has(id)) {
      const found = await readIncoming(pool, id);
      if (!found?.complete || found.layer.etag !== layer.etag) {
        throw new LaminaError('layer-changed', `layer ${id} was fetched with another parent`);
      }
      const received = { id, parent, format, virtualSizeBytes, createdAt };
      await installLayer(pool, received, (file) => rename(incomingFile(pool, layer), file)).catch((error: unknown) => {
        if (!isLaminaError(error, 'layer-corrupt', 'image-header-invalid')) throw error;
        // What is left of it is begun anew, as the file is gone.
        throw new LaminaError('peer-invalid', `the peer sent another file than it described: ${error.message}`);
      });
      checkpoint('fetch-layers/layer-installed');
    }
    await discardLayer(pool, id);
  }

  #connection({ peer }: FetchRequest, signal: AbortSignal): PeerConnection {
    const { credentials, stallMs } = this.#options;
    return { peer, credentials: credentials(), stallMs, signal };
  }
}
