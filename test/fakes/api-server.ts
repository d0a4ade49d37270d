import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Connection } from '../../src/kube/client/connection.ts';
import {
  type Address,
  ApiObjects,
  collectionOf,
  type FakeChange,
  type FakeObject,
  type FakeType,
  formatVersion,
  parseVersion,
  StatusError,
} from './api-objects.ts';
import { isJson, type Json } from './api-patch.ts';

export interface FakeRequest {
  method: string;
  path: string;
  query: URLSearchParams;
  contentType: string;
  token: string;
  body: unknown;
}

/** What goes wrong with a request. */
export type Fault =
  /** Answered with a Status, and not done. */
  | { kind: 'status'; status: number; reason?: string; retryAfterSeconds?: number; details?: Json }
  /** The connection ends without an answer; the request is not done. */
  | { kind: 'drop' }
  /** The same, but the request is done. */
  | { kind: 'drop-after' }
  /** Half of the answer comes, then the connection ends. */
  | { kind: 'truncate' }
  /** There is never an answer. */
  | { kind: 'hang' }
  /** Done and answered, but not before the promise resolves. */
  | { kind: 'slow'; until: Promise<unknown> }
  /** Answered with that, and not done. */
  | { kind: 'garbage'; text: string }
  /** Answered with that object, as by a part of the API server that the fake has not. */
  | { kind: 'answer'; body: (request: FakeRequest) => unknown };

export interface Injection {
  fault: Fault;
  /** Requests that it applies to; all unless given. */
  match?: (request: FakeRequest) => boolean;
  /** How often; once unless given. */
  times?: number;
}

export interface FakeApiServerOptions {
  types: readonly FakeType[];
  /** With `ca`, clients must have a certificate of it. */
  tls?: { key: string; cert: string; ca?: string };
}

interface Watch {
  response: ServerResponse;
  collection: string;
  matches: (object: FakeObject) => boolean;
  bookmarks: boolean;
  /** Nothing is sent any more, as where the peer's machine has lost its power. */
  isMute: boolean;
}

/** What every API server has, as far as it is used here. */
const builtinTypes: readonly FakeType[] = [
  { group: 'coordination.k8s.io', version: 'v1', kind: 'Lease', plural: 'leases', namespaced: true, hasStatus: false },
  { group: 'events.k8s.io', version: 'v1', kind: 'Event', plural: 'events', namespaced: true, hasStatus: false },
  { group: '', version: 'v1', kind: 'Node', plural: 'nodes', namespaced: false },
];

/**
 * An API server on loopback that speaks real HTTP and keeps objects in memory: resource versions, pages, watches with
 * bookmarks, merge patches and server-side apply, status subresources, finalizers, owners; and everything that can go
 * wrong, when a test wants it. It checks no schema.
 */
export class FakeApiServer {
  readonly objects: ApiObjects;
  /** All that was asked for, in order. */
  readonly requests: FakeRequest[] = [];
  /** Requests that are not answered yet, but for watches. */
  pending = 0;
  /** Tokens that are accepted; every one, and none at all, where this is empty. */
  readonly tokens = new Set<string>();
  /** Called for every change at once, before anybody is answered. */
  readonly onChange = new Set<(change: FakeChange) => void>();
  /** How an expired watch is answered: by an event in the stream, or by the status of the answer. */
  expiry: 'stream' | 'status' = 'stream';
  readonly #options: FakeApiServerOptions;
  readonly #watches = new Set<Watch>();
  readonly #sockets = new Set<Socket>();
  #injections: Required<Injection>[] = [];
  #server: Server | undefined;
  #port = 0;

  constructor(options: FakeApiServerOptions) {
    this.#options = options;
    this.objects = new ApiObjects({ now: () => new Date() }, (change) => this.#tell(change));
  }

  /** Listens, at the same port as before where there was one. */
  async start(): Promise<void> {
    const { tls } = this.#options;
    const handle = (request: IncomingMessage, response: ServerResponse) => void this.#handle(request, response);
    this.#server = tls ? createTlsServer({ ...tls, requestCert: 'ca' in tls }, handle) : createServer(handle);
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Ends like a process that is killed: all connections break; the objects stay. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#watches.clear();
    await closed;
  }

  get connection(): Connection {
    const protocol = this.#options.tls ? 'https' : 'http';
    return { server: new URL(`${protocol}://127.0.0.1:${this.#port}`), namespace: 'default' };
  }

  /** How many watches are open. */
  get watchCount(): number {
    return this.#watches.size;
  }

  inject({ fault, match = () => true, times = 1 }: Injection): void {
    this.#injections.push({ fault, match, times });
  }

  /** Ends all faults that are still to come. */
  heal(): void {
    this.#injections = [];
  }

  /** How many requests there were with that method. */
  count(method: string): number {
    return this.requests.filter((request) => request.method === method).length;
  }

  /** The requests that would change something: none in a settled cluster. */
  get writes(): FakeRequest[] {
    return this.requests.filter(({ method }) => method !== 'GET');
  }

  /** Ends all watches as the real one does after their time. */
  endWatches(): void {
    for (const { response } of this.#watches) response.end();
    this.#watches.clear();
  }

  /** Breaks the connections of all watches. */
  dropWatches(): void {
    for (const { response } of this.#watches) response.destroy();
    this.#watches.clear();
  }

  /** Sends nothing on the watches that are open now, though they stay open. */
  muteWatches(): void {
    for (const watch of this.#watches) watch.isMute = true;
  }

  /** Sends `text` as it is on all watches. */
  sendToWatches(words: string): void {
    for (const { response } of this.#watches) response.write(words);
  }

  sendBookmarks(): void {
    const metadata = { resourceVersion: formatVersion(this.objects.version), creationTimestamp: null };
    for (const watch of this.#watches) {
      if (watch.bookmarks && !watch.isMute) send(watch.response, 'BOOKMARK', { metadata });
    }
  }

  /** Tells all watches that they have expired, and forgets what has happened. */
  expireWatches(): void {
    this.objects.compact();
    const status = statusOf(new StatusError(410, 'Expired', 'too old resource version'));
    for (const { response } of this.#watches) {
      send(response, 'ERROR', status);
      response.end();
    }
    this.#watches.clear();
  }

  async #handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    this.pending++;
    try {
      const request = await readRequest(incoming);
      this.requests.push(request);
      await this.#answer(request, response);
    } catch (error) {
      if (response.destroyed) return;
      const status = error instanceof StatusError ? error : new StatusError(500, 'InternalError', String(error));
      const { retryAfterSeconds } = status.details;
      if (typeof retryAfterSeconds === 'number') response.setHeader('retry-after', retryAfterSeconds);
      reply(response, status.status, statusOf(status));
    } finally {
      this.pending--;
    }
  }

  async #answer(request: FakeRequest, response: ServerResponse): Promise<void> {
    const fault = this.#takeFault(request);
    if (fault?.kind === 'hang') return;
    if (fault?.kind === 'drop') return void response.destroy();
    if (fault?.kind === 'garbage') return void response.end(fault.text);
    if (fault?.kind === 'answer') return reply(response, 200, fault.body(request));
    if (fault?.kind === 'slow') await fault.until;
    if (fault?.kind === 'status') {
      const { status, reason = 'Injected', retryAfterSeconds, details } = fault;
      throw new StatusError(status, reason, 'a fault of the test', { ...details, retryAfterSeconds });
    }
    if (this.tokens.size > 0 && !this.tokens.has(request.token))
      throw new StatusError(401, 'Unauthorized', 'Unauthorized');
    const address = this.#find(request.path);
    if (!address) return void response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found\n');
    if (request.method === 'GET' && address.name === '' && request.query.get('watch') === 'true') {
      return this.#watch(address, request, response);
    }
    const answer = this.#execute(request, address);
    if (fault?.kind === 'drop-after') return void response.destroy();
    if (fault?.kind === 'truncate') {
      const body = JSON.stringify(answer);
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.slice(0, body.length / 2), () => response.destroy());
      return;
    }
    reply(response, request.method === 'POST' ? 201 : 200, answer);
  }

  #takeFault(request: FakeRequest): Fault | undefined {
    const injection = this.#injections.find(({ match, times }) => times > 0 && match(request));
    if (injection) injection.times--;
    return injection?.fault;
  }

  #find(path: string): Address | undefined {
    const type = [...this.#options.types, ...builtinTypes].find((candidate) => {
      const { group, version } = candidate;
      return (
        path.startsWith(group ? `/apis/${group}/${version}/` : `/api/${version}/`) &&
        pluralOf(path) === candidate.plural
      );
    });
    if (!type) return undefined;
    const segments = path
      .split('/')
      .slice(type.group ? 4 : 3)
      .map(decodeURIComponent);
    const isInNamespace = segments[0] === 'namespaces' && segments.length > 2;
    const [, name = '', subresource = ''] = isInNamespace ? segments.slice(2) : segments;
    return { type, namespace: isInNamespace ? (segments[1] ?? '') : '', name, subresource };
  }

  #execute(request: FakeRequest, address: Address): unknown {
    const body = request.body as Json;
    switch (request.method) {
      case 'GET':
        return address.name === '' ? this.#list(address, request.query) : this.objects.get(address);
      case 'POST':
        return this.objects.create(address, body);
      case 'PUT':
        return this.objects.replace(address, body);
      case 'PATCH':
        return this.#patch(request, address, body);
      case 'DELETE':
        return this.objects.remove(address, isJson(body?.['preconditions']) ? body['preconditions'] : {});
      default:
        throw new StatusError(405, 'MethodNotAllowed', request.method);
    }
  }

  #patch({ contentType, query }: FakeRequest, address: Address, body: Json): FakeObject {
    if (contentType === 'application/merge-patch+json') return this.objects.mergePatch(address, body);
    if (contentType !== 'application/apply-patch+yaml') throw new StatusError(415, 'UnsupportedMediaType', contentType);
    const manager = query.get('fieldManager');
    if (!manager) throw new StatusError(400, 'BadRequest', 'fieldManager is required for apply patch');
    return this.objects.apply(address, body, { manager, force: query.get('force') === 'true' });
  }

  #list({ type, namespace }: Address, query: URLSearchParams): unknown {
    const [version = '', offset = '0'] = (query.get('continue') ?? `${formatVersion(this.objects.version)}:0`).split(
      ':',
    );
    if (parseVersion(version) < this.objects.oldest)
      throw new StatusError(410, 'Expired', 'the continue token is too old');
    const all = this.objects.list(type, namespace).filter(selectorOf(query));
    const limit = Number(query.get('limit') ?? all.length) || all.length;
    const end = Number(offset) + limit;
    return {
      kind: `${type.kind}List`,
      apiVersion: type.group ? `${type.group}/${type.version}` : type.version,
      metadata: { resourceVersion: version, ...(end < all.length ? { continue: `${version}:${end}` } : {}) },
      items: all.slice(Number(offset), end),
    };
  }

  #watch({ type, namespace }: Address, { query }: FakeRequest, response: ServerResponse): void {
    const version = parseVersion(query.get('resourceVersion') ?? '');
    if (version > this.objects.version) {
      const details = { causes: [{ reason: 'ResourceVersionTooLarge' }], retryAfterSeconds: 1 };
      throw new StatusError(504, 'Timeout', 'Too large resource version', details);
    }
    const expired = new StatusError(410, 'Expired', `too old resource version: ${query.get('resourceVersion')}`);
    const isExpired = !(version >= this.objects.oldest);
    if (isExpired && this.expiry === 'status') throw expired;
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (isExpired) {
      send(response, 'ERROR', statusOf(expired));
      response.end();
      return;
    }
    const selected = selectorOf(query);
    const matches = (object: FakeObject) =>
      (namespace === '' || object.metadata.namespace === namespace) && selected(object);
    const bookmarks = query.get('allowWatchBookmarks') === 'true';
    const watch = { response, collection: collectionOf(type), matches, bookmarks, isMute: false };
    for (const change of this.objects.history) if (change.version > version) tell(watch, change);
    this.#watches.add(watch);
    response.once('close', () => this.#watches.delete(watch));
  }

  #tell(change: FakeChange): void {
    for (const watch of this.#watches) tell(watch, change);
    for (const listener of this.onChange) listener(change);
  }
}

/** Sends a change as the watch sees it: what begins to match its selector is new, what ceases to is deleted. */
function tell({ response, collection, matches, isMute }: Watch, change: FakeChange): void {
  if (isMute || change.collection !== collection) return;
  const { object, before, type } = change;
  const matchedBefore = before !== undefined && matches(before);
  const matchesNow = type !== 'DELETED' && matches(object);
  if (matchesNow) send(response, matchedBefore ? 'MODIFIED' : 'ADDED', object);
  else if (matchedBefore) send(response, 'DELETED', object);
}

function send(response: ServerResponse, type: string, object: unknown): void {
  response.write(`${JSON.stringify({ type, object })}\n`);
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

function statusOf({ status, reason, message, details }: StatusError): Json {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: status, reason, message, details };
}

async function readRequest(incoming: IncomingMessage): Promise<FakeRequest> {
  const url = new URL(incoming.url ?? '/', 'http://fake');
  const body = await text(incoming);
  return {
    method: incoming.method ?? '',
    path: url.pathname,
    query: url.searchParams,
    contentType: incoming.headers['content-type'] ?? '',
    token: (incoming.headers.authorization ?? '').replace(/^Bearer /, ''),
    body: body === '' ? undefined : JSON.parse(body),
  };
}

/** `diskimages` of `/apis/lamina.storage/v1alpha1/namespaces/media/diskimages/debian/status` */
function pluralOf(path: string): string | undefined {
  const segments = path.split('/').slice(path.startsWith('/apis/') ? 4 : 3);
  return segments[0] === 'namespaces' && segments.length > 2 ? segments[2] : segments[0];
}

/** Label selectors of the form `a=b,c=d`, and field selectors of the same form over any path. */
function selectorOf(query: URLSearchParams): (object: FakeObject) => boolean {
  const labels = pairsOf(query.get('labelSelector'));
  const fields = pairsOf(query.get('fieldSelector'));
  return (object) =>
    labels.every(([name, value]) => (object.metadata['labels'] as Json | undefined)?.[name] === value) &&
    fields.every(([path, value]) => (valueAt(object, path.split('.')) ?? '') === value);
}

function pairsOf(selector: string | null): [string, string][] {
  return (selector ?? '')
    .split(',')
    .filter(Boolean)
    .map((pair) => pair.split('=') as [string, string]);
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce((at, name) => (isJson(at) ? at[name] : undefined), value);
}
