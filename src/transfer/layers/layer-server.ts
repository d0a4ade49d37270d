import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import { close, listen } from '../../lib/http-server.ts';
import type { Logger } from '../../lib/logger.ts';
import type { TokenBucket } from '../../lib/token-bucket.ts';
import { observed, type UnderWay } from '../../lib/under-way.ts';
import type { Pool } from '../../store/pool.ts';
import type { LayerId } from '../../store/records.ts';
import { type Credentials, tlsOptions } from '../identity/credentials.ts';
import { answerError, answerJson } from '../http-answers.ts';
import { roleName } from '../identity/identity-names.ts';
import { sendLayer } from './layer-sender.ts';
import { type LayerRequest, parseLayerRequest } from './layer-request.ts';
import { describeChain, openLayer } from './layer-source.ts';

/** A connection on which nothing moved for so long is closed, so that what it pins is free again. */
const idleMs = 60_000;
const maxConnections = 64;

export interface LayerServerOptions {
  credentials: Credentials;
  /** A pool of this node by its name. */
  pool: (name: string) => Pool | undefined;
  /** Bounds all transfers together. */
  limit: TokenBucket;
  /** Called when layers of a pool are not being sent any more, and can be merged again. */
  onReleased: (pool: Pool) => void;
  /** Called for each layer that begins to be sent. */
  begin: (kind: 'layer-serve') => UnderWay;
  logger: Logger;
}

/**
 * Gives the sealed layers of this node's pools to other nodes: HTTPS, with certificates on both sides.
 *
 *     GET /v1/pools/<pool>/snapshots/<id>      the chain (chain-description.ts)
 *     GET /v1/pools/<pool>/images/<id>
 *     GET /v1/pools/<pool>/layers/<id>?from=N  the layer's file from byte N on (layer-frames.ts); If-Match: "<etag>"
 */
export class LayerServer {
  readonly #options: LayerServerOptions;
  readonly #server: Server;
  readonly #closing = new AbortController();

  constructor(options: LayerServerOptions) {
    this.#options = options;
    this.#server = createServer(
      { ...tlsOptions(options.credentials), requestCert: true, rejectUnauthorized: true },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.maxConnections = maxConnections;
    this.#server.setTimeout(idleMs);
    this.#server.on('tlsClientError', (error, { remoteAddress, authorizationError }) => {
      // The other side only sees the connection closed.
      const reason = authorizationError ?? messageOf(error);
      options.logger.warn({ remoteAddress, reason }, 'refused a connection to the layer server');
    });
  }

  async listen(port: number, host: string): Promise<AddressInfo> {
    await listen(this.#server, { host, port });
    return this.#server.address() as AddressInfo;
  }

  /** For connections from now on; those that are open stay. */
  replaceCredentials(credentials: Credentials): void {
    this.#server.setSecureContext(tlsOptions(credentials));
  }

  /** Breaks off what is being sent. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('the server is closing'));
    await close(this.#server);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      assertNode(request.socket as TLSSocket);
      const wanted = parseLayerRequest(request);
      const pool = this.#options.pool(wanted.pool);
      if (!pool) throw new LaminaError('layer-not-found', `there is no pool ${wanted.pool} on this node`);
      if (wanted.kind === 'layer') await this.#send(pool, wanted, request, response);
      else answerJson(response, 200, await describeChain(pool, wanted.kind, wanted.id));
    } catch (error) {
      this.#options.logger.info({ path: request.url, error: messageOf(error) }, 'a request of another node failed');
      answerError(response, error);
    }
  }

  async #send(
    pool: Pool,
    wanted: Extract<LayerRequest, { kind: 'layer' }>,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { id, from, etag } = wanted;
    await this.#whilePinned(pool, id, async () => {
      await using opened = await openLayer(pool, id);
      const { description, handle } = opened;
      if (description.etag !== etag) throw new LaminaError('layer-changed', `layer ${id} has another file by now`);
      if (from > description.fileSizeBytes)
        throw new LaminaError('invalid-parameter', `layer ${id} has ${description.fileSizeBytes} bytes`);
      const { fileSizeBytes: sizeBytes } = description;
      const { limit, logger } = this.#options;
      logger.info({ layer: id, from, bytes: description.allocatedBytes }, 'sending a layer');
      response.writeHead(200, { 'content-type': 'application/octet-stream', etag: `"${etag}"` });
      const gone = new AbortController();
      request.socket.once('close', () => gone.abort(new Error('the connection was closed')));
      const signal = AbortSignal.any([gone.signal, this.#closing.signal]);
      await observed(this.#options.begin('layer-serve'), signal, (onBytes) =>
        sendLayer({ handle, sizeBytes, from, limit, signal, onBytes }, response),
      );
    });
  }

  /** As long as it is being sent, a layer is neither collected nor merged into the next one. */
  async #whilePinned(pool: Pool, id: LayerId, work: () => Promise<void>): Promise<void> {
    try {
      await pool.withPins([id], work);
    } finally {
      await pool.collect();
      this.#options.onReleased(pool);
    }
  }
}

/** TLS has found that the certificate is one of ours; this, that it is a node's. */
function assertNode(socket: TLSSocket): void {
  const name = roleName('node');
  if (socket.getPeerX509Certificate()?.checkHost(name, { subject: 'never', wildcards: false })) return;
  throw new LaminaError('peer-untrusted', 'only nodes are given layers: the certificate is not a node’s');
}
