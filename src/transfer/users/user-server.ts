import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { isLaminaError, messageOf } from '../../lib/errors.ts';
import { close, listen } from '../../lib/http-server.ts';
import type { Logger } from '../../lib/logger.ts';
import type { TokenBucket } from '../../lib/token-bucket.ts';
import { observed, type UnderWay } from '../../lib/under-way.ts';
import type { Pool } from '../../store/pool.ts';
import type { SealedKind } from '../layers/chain-description.ts';
import type { ExportCache } from './export-cache.ts';
import { answerError, answerJson } from '../http-answers.ts';
import { sendExport } from './send-export.ts';
import { sealedContent } from '../layers/layer-source.ts';
import { takeUpload, uploadOffset, type UploadSink } from './take-upload.ts';
import { type ExportRequest, parseUserRequest, tokenOf, type UploadRequest, type UserRequest } from './user-request.ts';

/** A connection on which nothing moved for so long is closed. */
const idleMs = 60_000;
const uploadIdleMs = 300_000;
const maxConnections = 64;

/** Whether the bearer of a token may do it: yes, no, or nobody knows who that is. */
export type Verdict = 'allowed' | 'forbidden' | 'unauthenticated';

/** What has to be asked of another node. */
export interface Elsewhere {
  nodeName: string;
  /** Where that node answers; null where it does not, or not yet. */
  address: string | null;
  /** The name in its certificate. */
  serverName: string;
}

/** What an object stands for: on this node, or not. */
export type Found<T> = { here: T } | { elsewhere: Elsewhere };

export interface ExportedContent {
  pool: Pool;
  kind: SealedKind;
  id: string;
}

export interface UserServerOptions {
  /** The server's own, PEM. */
  certificate: { certificate: string; key: string };
  /** Asked before anything is said about whether it exists. */
  authorize: (token: string, request: UserRequest) => Promise<Verdict>;
  /** What is exported. @throws LaminaError `image-not-found`, `snapshot-not-found`, `unsupported` */
  findExport: (request: ExportRequest, signal: AbortSignal) => Promise<Found<ExportedContent>>;
  /** What takes the upload. @throws LaminaError `image-not-found` where none is waited for */
  findSink: (request: UploadRequest, signal: AbortSignal) => Promise<Found<UploadSink>>;
  exports: ExportCache;
  /** Bounds all exports together. */
  limit: TokenBucket;
  /** Called where something begins to move. */
  begin: (kind: 'export' | 'upload') => UnderWay;
  logger: Logger;
}

/**
 * What people and their backup programs exchange with a node: HTTPS, with a bearer token for each request.
 *
 *     GET /v1/namespaces/<namespace>/volumesnapshots/<name>/disk.qcow2  a snapshot as one file, with Range; also disk.raw
 *     GET /v1/namespaces/<namespace>/diskimages/<name>/disk.qcow2       an image; disksnapshots likewise
 *     PUT /v1/namespaces/<namespace>/diskimages/<name>/upload           the file of an image that waits for it, with
 *                                                                       Content-Range; HEAD says in Upload-Offset how
 *                                                                       much of it has come
 *
 * A node that does not have it answers 421, and says which has. A listener of its own: between nodes strangers do not get
 * as far as a request.
 */
export class UserServer {
  readonly #options: UserServerOptions;
  readonly #server: Server;
  readonly #closing = new AbortController();

  constructor(options: UserServerOptions) {
    this.#options = options;
    const { certificate: cert, key } = options.certificate;
    this.#server = createServer({ cert, key }, (request, response) => void this.#answer(request, response));
    // Who sends much asks first whether it is wanted, and is told when it is known (take-upload.ts).
    this.#server.on('checkContinue', (request, response) => void this.#answer(request, response));
    this.#server.maxConnections = maxConnections;
    this.#server.setTimeout(idleMs);
    // An upload takes as long as it takes; idle connections are closed all the same.
    this.#server.requestTimeout = 0;
  }

  async listen(port: number, host: string): Promise<AddressInfo> {
    await listen(this.#server, { host, port });
    return this.#server.address() as AddressInfo;
  }

  /** For connections from now on. */
  replaceCertificate({ certificate, key }: UserServerOptions['certificate']): void {
    this.#server.setSecureContext({ cert: certificate, key });
  }

  /** Breaks off what is being sent. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('the server is closing'));
    await close(this.#server);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort(new Error('the connection was closed')));
    const signal = AbortSignal.any([gone.signal, this.#closing.signal]);
    try {
      const wanted = parseUserRequest(request);
      if (!(await this.#admit(request, response, wanted))) return;
      if (wanted.action === 'export') await this.#export(wanted, request, response, signal);
      else await this.#upload(wanted, request, response, signal);
    } catch (error) {
      this.#log(request, error, signal.aborted || isLaminaError(error));
      // Or all the rest of what somebody wants to upload would be read, to no end.
      if (!response.headersSent) response.setHeader('connection', 'close');
      answerError(response, error, request);
    }
  }

  async #admit(request: IncomingMessage, response: ServerResponse, wanted: UserRequest): Promise<boolean> {
    const token = tokenOf(request);
    const verdict = token === undefined ? 'unauthenticated' : await this.#options.authorize(token, wanted);
    if (verdict === 'allowed') return true;
    response.setHeader('connection', 'close');
    if (verdict === 'unauthenticated') response.setHeader('www-authenticate', 'Bearer');
    const { action, resource, namespace, name } = wanted;
    const message = `a bearer token is needed that may do this: ${action} ${resource} ${namespace}/${name}`;
    answerJson(response, verdict === 'forbidden' ? 403 : 401, { code: verdict, message }, request);
    return false;
  }

  async #export(
    wanted: ExportRequest,
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const { exports, limit, logger, findExport, begin } = this.#options;
    const found = await findExport(wanted, signal);
    if ('elsewhere' in found) return answerElsewhere(request, response, wanted, found.elsewhere);
    const { format, headOnly, resource, namespace, name } = wanted;
    const { pool, kind, id } = found.here;
    const { layer } = sealedContent(pool, kind, id);
    await exports.use(pool, { layer, format }, async (disk) => {
      const options = { fileName: `${name}.${format}`, limit, signal };
      if (headOnly) return sendExport(disk, { ...options, onBytes: null }, request, response);
      logger.info({ resource, namespace, name, format, range: request.headers.range }, 'exporting a disk');
      await observed(begin('export'), signal, (onBytes) =>
        sendExport(disk, { ...options, onBytes }, request, response),
      );
    });
  }

  async #upload(
    wanted: UploadRequest,
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const found = await this.#options.findSink(wanted, signal);
    if ('elsewhere' in found) return answerElsewhere(request, response, wanted, found.elsewhere);
    if (wanted.headOnly) response.writeHead(200, uploadOffset(found.here)).end();
    else {
      this.#options.logger.info({ namespace: wanted.namespace, name: wanted.name }, 'taking an upload');
      // What has come before is read first, to go on with its checksum.
      request.socket.setTimeout(uploadIdleMs);
      await observed(this.#options.begin('upload'), signal, (onBytes) =>
        takeUpload(found.here, request, response, { signal, onBytes }),
      );
    }
  }

  #log({ method, url = '' }: IncomingMessage, error: unknown, isForeseen: boolean): void {
    // What follows the path is none of ours, and may be a secret.
    const [path] = url.split('?');
    const fields = { method, path, error: messageOf(error) };
    const { logger } = this.#options;
    if (isForeseen) logger.info(fields, 'a request of a user failed');
    else logger.error({ ...fields, stack: error instanceof Error && error.stack }, 'a request of a user failed');
  }
}

/** Whoever asked is to ask there; what comes of an upload is not taken. */
function answerElsewhere(
  request: IncomingMessage,
  response: ServerResponse,
  { resource, namespace, name }: UserRequest,
  { nodeName, address, serverName }: Elsewhere,
): void {
  const what = `${resource} ${namespace}/${name} is on node ${nodeName}`;
  const message =
    address === null ? `${what}, which answers nobody` : `${what}: ask https://${address} as ${serverName}`;
  response.setHeader('connection', 'close');
  answerJson(response, 421, { code: 'misdirected', message, nodeName, address, serverName }, request);
}
