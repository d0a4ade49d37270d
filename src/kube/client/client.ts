import type { IncomingMessage } from 'node:http';
import { type Clock, pause } from '../../lib/clock.ts';
import { withDeadline } from '../../lib/deadline.ts';
import { errnoOf } from '../../lib/errors.ts';
import { ApiError, apiErrorOf } from './api-error.ts';
import { type Connection, revealSecret } from './connection.ts';
import { FileSource } from './file-source.ts';
import { interruption, Transport } from './transport.ts';

export interface ApiRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Begins with `/api`; without a query. */
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  /** Sent as JSON. */
  body?: unknown;
  /** Of the body; `application/json` unless given. */
  contentType?: string;
  signal?: AbortSignal | undefined;
  /** Until the whole answer is there; 30 s unless given. Not for `open`. */
  timeoutMs?: number;
}

/** What everything here needs of an API server. */
export interface KubeClient {
  /**
   * Sends a request and returns the JSON of the answer. Waits and sends it again where the API server asks for that.
   *
   * @throws ApiError; LaminaError `timeout`; the reason of the request's signal
   */
  request(request: ApiRequest): Promise<unknown>;
  /**
   * Sends a request whose answer goes on for long, such as a watch. How long is the caller's to say: by the signal.
   *
   * @throws as `request`
   */
  open(request: ApiRequest & { signal: AbortSignal }): Promise<IncomingMessage>;
}

export interface ClientOptions {
  connection: Connection;
  clock: Clock;
  /** `lamina/1.0.0 (controller)` */
  userAgent: string;
}

const defaultTimeoutMs = 30_000;
/** A list of 500 big objects is far below; a server that never ends is not waited for. */
const maxAnswerBytes = 128 * 1024 * 1024;
const maxRepetitions = 4;
const longestRetryAfterMs = 10_000;

/** A client of one API server, over HTTPS with connections that are kept. */
export class ApiClient implements KubeClient {
  readonly #transport: Transport;
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #userAgent: string;

  constructor({ connection, clock, userAgent }: ClientOptions) {
    this.#transport = new Transport(connection);
    this.#connection = connection;
    this.#clock = clock;
    this.#userAgent = userAgent;
  }

  async request(request: ApiRequest): Promise<unknown> {
    const { method, path, signal: callers, timeoutMs = defaultTimeoutMs } = request;
    const deadline = { clock: this.#clock, timeoutMs, what: `${method} ${path}`, signal: callers };
    return withDeadline(deadline, async (signal) => {
      for (let repetition = 0; ; repetition++) {
        try {
          const answer = await this.#send(request, signal, false);
          return parseJson(await readBody(answer, request, signal), request);
        } catch (error) {
          const delayMs = repetition < maxRepetitions ? this.#repeatAfterMs(error, request, repetition) : undefined;
          if (delayMs === undefined) throw error;
          await pause(this.#clock, delayMs, signal);
          // What the API server said tells more than that the time was over.
          if (signal.aborted && !callers?.aborted) throw error;
        }
      }
    });
  }

  async open(request: ApiRequest & { signal: AbortSignal }): Promise<IncomingMessage> {
    return this.#send(request, request.signal, true);
  }

  /** Closes all connections; requests that are under way fail. */
  close(): void {
    this.#transport.close();
  }

  /** @throws ApiError for every answer that is not a success */
  async #send(request: ApiRequest, signal: AbortSignal, longLived: boolean): Promise<IncomingMessage> {
    const { method, body, contentType = 'application/json' } = request;
    const path = pathWithQuery(request);
    const token = await revealSecret(this.#connection.token);
    const answer = await this.#transport.send({
      method,
      path,
      headers: {
        accept: 'application/json',
        'user-agent': this.#userAgent,
        ...(token ? { authorization: `Bearer ${token.trim()}` } : {}),
        ...(body === undefined ? {} : { 'content-type': contentType }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      longLived,
    });
    const status = answer.statusCode ?? 0;
    if (status >= 200 && status < 300) return answer;
    const words = await readBody(answer, request, signal);
    // Has a replaced token read at once.
    if (status === 401 && this.#connection.token instanceof FileSource) this.#connection.token.forget();
    throw apiErrorOf(`${method} ${path}`, status, words, answer.headers['retry-after']);
  }

  /** When to send a request again that failed with `error`; undefined where that is for the caller to decide. */
  #repeatAfterMs(error: unknown, { method }: ApiRequest, repetition: number): number | undefined {
    if (!(error instanceof ApiError)) return undefined;
    const { status, retryAfterMs = 0 } = error.failure;
    if (status === 401) return repetition === 0 && this.#connection.token instanceof FileSource ? 0 : undefined;
    if (retryAfterMs > longestRetryAfterMs) return undefined;
    if (status === 429) return retryAfterMs || 1000;
    // A connection that was kept can be closed by the server just when a request is sent on it.
    if (status === undefined) return method === 'GET' && repetition === 0 && wasReset(error) ? 0 : undefined;
    return status >= 500 && method === 'GET' && retryAfterMs > 0 ? retryAfterMs : undefined;
  }
}

function pathWithQuery({ path, query = {} }: ApiRequest): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, String(value));
  return parameters.size === 0 ? path : `${path}?${parameters.toString()}`;
}

async function readBody(answer: IncomingMessage, { method, path }: ApiRequest, signal: AbortSignal): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of answer as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > maxAnswerBytes) throw new Error(`more than ${maxAnswerBytes} bytes`);
      parts.push(part);
    }
  } catch (error) {
    throw interruption(error, { method, path, signal });
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseJson(text: string, { method, path }: ApiRequest): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const words = JSON.stringify(text.slice(0, 100));
    throw new ApiError(`${method} ${path}: the answer is not JSON: ${words}`, { status: 502 }, { cause: error });
  }
}

function wasReset({ cause }: ApiError): boolean {
  return ['ECONNRESET', 'EPIPE'].includes(errnoOf(cause) ?? '');
}
