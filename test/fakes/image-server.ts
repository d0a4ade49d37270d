import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
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
  readonly #server = createServer((request, response) => this.#serve(request, response));

  /** @param host the address that it listens at */
  static async start(host = '127.0.0.1'): Promise<ImageServer> {
    const server = new ImageServer();
    await listen(server.#server, { host, port: 0 });
    return server;
  }

  get origin(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}`;
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
