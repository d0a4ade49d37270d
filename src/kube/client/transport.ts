import { Agent as HttpAgent, type IncomingMessage, request as httpRequest, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import { ApiError } from './api-error.ts';
import { type Connection, revealSecret } from './connection.ts';

export interface HttpRequest {
  method: string;
  /** With the query. */
  path: string;
  headers: Record<string, string>;
  body?: string | undefined;
  signal: AbortSignal;
  /** Long answers have connections of their own, so that they do not take those of the short ones. */
  longLived: boolean;
}

/** More at once only make the API server's queue longer. */
const maxConnections = 32;
const keepAlive = { keepAlive: true, keepAliveMsecs: 15_000 };

/** Sends requests to one API server, over connections that it keeps. */
export class Transport {
  readonly #connection: Connection;
  readonly #agents: readonly (HttpAgent | HttpsAgent)[];
  readonly #short: HttpAgent | HttpsAgent;
  readonly #long: HttpAgent | HttpsAgent;

  constructor(connection: Connection) {
    this.#connection = connection;
    const Agent = connection.server.protocol === 'https:' ? HttpsAgent : HttpAgent;
    this.#short = new Agent({ ...keepAlive, maxSockets: maxConnections });
    this.#long = new Agent({ ...keepAlive, keepAlive: false });
    this.#agents = [this.#short, this.#long];
  }

  /**
   * Resolves with the head of the answer, whatever its status is; its body must be consumed or destroyed.
   *
   * @throws the signal's reason; ApiError without a status where there is no answer; errors of files with credentials
   */
  async send(request: HttpRequest): Promise<IncomingMessage> {
    request.signal.throwIfAborted();
    const options = await this.#options(request);
    request.signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const send = this.#connection.server.protocol === 'https:' ? httpsRequest : httpRequest;
    const outgoing = send(options, (answer) => {
      // Whoever reads it is told by the reading; an error before that must not end the process.
      answer.on('error', () => {});
      resolve(answer);
    });
    outgoing.on('error', reject);
    // Finds a peer that vanished without a word, while nothing is sent either way.
    outgoing.on('socket', (socket) => socket.setKeepAlive(true, keepAlive.keepAliveMsecs));
    outgoing.end(request.body);
    try {
      return await promise;
    } catch (error) {
      throw interruption(error, request);
    }
  }

  /** Closes all connections; requests that are under way fail. */
  close(): void {
    for (const agent of this.#agents) agent.destroy();
  }

  /** TLS material is given with each request, so that what was replaced is used from the next connection on. */
  async #options({ method, path, headers, body, signal, longLived }: HttpRequest): Promise<RequestOptions> {
    const { server, certificateAuthority, tlsServerName, insecureSkipTlsVerify, clientCertificate } = this.#connection;
    const root = server.pathname.replace(/\/$/, '');
    return {
      method,
      host: server.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: server.port || (server.protocol === 'https:' ? 443 : 80),
      path: `${root}${path}`,
      // Node gives no length to a DELETE by itself, and its body is taken for the next request then.
      headers: body === undefined ? headers : { ...headers, 'content-length': String(Buffer.byteLength(body)) },
      signal,
      agent: longLived ? this.#long : this.#short,
      ...withoutUndefined({
        ca: await revealSecret(certificateAuthority),
        cert: await revealSecret(clientCertificate?.certificate),
        key: await revealSecret(clientCertificate?.key),
        servername: tlsServerName,
        rejectUnauthorized: insecureSkipTlsVerify ? false : undefined,
      }),
    };
  }
}

/** What is to be thrown where a request, or the body of its answer, ended with `error`. */
export function interruption(
  error: unknown,
  { method, path, signal }: Pick<HttpRequest, 'method' | 'path' | 'signal'>,
): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof LaminaError) return error;
  return new ApiError(`${method} ${path}: no answer from the API server: ${messageOf(error)}`, {}, { cause: error });
}

function withoutUndefined(options: object): object {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
