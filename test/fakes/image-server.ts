import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { CertifiedKey } from '../../src/lib/certificate.ts';
import { close, listen } from '../../src/lib/http-server.ts';

/** A web server with one file at each path, that fails as it is told. */
export class ImageServer {
  readonly #files = new Map<string, Buffer>();
  /** Of all requests, in order. */
  readonly requests: IncomingMessage[] = [];
  /** Answers instead of it where it returns true. */
  answer: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** Each connection is broken after so many bytes. */
  breakAfter = Number.POSITIVE_INFINITY;
  readonly #scheme: 'http' | 'https';
  readonly #server: Server;

  /** @param host the address that it listens at */
  static async start(host = '127.0.0.1', tls?: CertifiedKey): Promise<ImageServer> {
    const server = new ImageServer(tls);
    await listen(server.#server, { host, port: 0 });
    return server;
  }

  private constructor(tls: CertifiedKey | undefined) {
    const serve: RequestListener = (request, response) => this.#serve(request, response);
    this.#scheme = tls ? 'https' : 'http';
    this.#server = tls ? createTlsServer({ key: tls.key, cert: tls.certificate }, serve) : createServer(serve);
  }

  get origin(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `${this.#scheme}://${address}:${port}`;
  }

  /** @returns the file's URL */
  put(path: string, content: Buffer): string {
    this.#files.set(path, content);
    return this.origin + path;
  }

  async close(): Promise<void> {
    await close(this.#server);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.requests.push(request);
    if (this.answer(request, response)) return;
    const content = this.#files.get(request.url ?? '');
    if (!content) return void response.writeHead(404).end();
    const etag = `"${createHash('sha256').update(content).digest('hex')}"`;
    const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
    const start = from !== undefined && request.headers['if-range'] === etag ? Number(from) : 0;
    const part = content.subarray(start);
    response.setHeader('etag', etag).setHeader('content-length', part.length);
    if (start > 0) response.setHeader('content-range', `bytes ${start}-${content.length - 1}/${content.length}`);
    response.writeHead(start > 0 ? 206 : 200);
    if (part.length <= this.breakAfter) return void response.end(part);
    response.write(part.subarray(0, this.breakAfter), () => response.destroy());
  }
}
