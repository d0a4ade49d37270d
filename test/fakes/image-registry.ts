import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { close, listen } from '../../src/lib/http-server.ts';

const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const indexType = 'application/vnd.oci.image.index.v1+json';

export const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A layer: the archive of these files, compressed with gzip. A string is what a symbolic link points to. */
export async function layerOf(files: Readonly<Record<string, Buffer | string>>): Promise<Buffer> {
  const archive = pack();
  for (const [name, content] of Object.entries(files)) {
    if (typeof content === 'string') archive.entry({ name, type: 'symlink', linkname: content });
    else archive.entry({ name, mode: 0o644 }, content);
  }
  archive.finalize();
  return gzipSync(await buffer(archive as AsyncIterable<Buffer>), { level: 1 });
}

/** A registry of container images with one repository `team/disk`, that fails as it is told. */
export class ImageRegistry {
  /** Where a tag or digest leads. */
  readonly #manifests = new Map<string, { bytes: Buffer; mediaType: string }>();
  readonly #blobs = new Map<string, Buffer>();
  readonly #tokens = new Set<string>();
  /** `METHOD path`, and what was sent to log in. */
  readonly requests: { path: string; authorization: string | undefined; range: string | undefined }[] = [];
  /** Who may read; null: anybody. */
  login: { user: string; password: string } | null = null;
  scheme: 'bearer' | 'basic' = 'bearer';
  tokenSeconds = 300;
  /** Where tokens are said to be; null: here. */
  realm: string | null = null;
  /** So many requests are answered with 503 first. */
  failures = 0;
  /** Each connection that sends a blob is broken after so many bytes. */
  breakAfter = Number.POSITIVE_INFINITY;
  /** Blobs are elsewhere, at this origin. */
  storage: string | null = null;
  readonly #server = createServer((request, response) => this.#serve(request, response));

  static async start(): Promise<ImageRegistry> {
    const registry = new ImageRegistry();
    await listen(registry.#server, { host: '127.0.0.1', port: 0 });
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** @returns the reference without tag and digest */
  get repository(): string {
    return `${this.host}/team/disk`;
  }

  async close(): Promise<void> {
    await close(this.#server);
  }

  putBlob(content: Buffer): { digest: string; size: number } {
    const digest = sha256(content);
    this.#blobs.set(digest, content);
    return { digest, size: content.length };
  }

  /** Puts other bytes under a digest. */
  forgeBlob(digest: string, content: Buffer): void {
    this.#blobs.set(digest, content);
  }

  /** Puts an image of these layers, the lowest first. @returns its digest */
  putImage(tag: string, layers: readonly Buffer[], mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip'): string {
    const config = { mediaType: 'application/vnd.oci.image.config.v1+json', ...this.putBlob(Buffer.from('{}')) };
    const described = layers.map((layer) => ({ mediaType, ...this.putBlob(layer) }));
    return this.putManifest(tag, manifestType, {
      schemaVersion: 2,
      mediaType: manifestType,
      config,
      layers: described,
    });
  }

  putIndex(tag: string, images: readonly { digest: string; os?: string; architecture?: string }[]): string {
    const manifests = images.map(({ digest, os, architecture }) => ({
      mediaType: manifestType,
      digest,
      size: this.#manifests.get(digest)?.bytes.length ?? 0,
      ...(architecture === undefined ? {} : { platform: { os, architecture } }),
    }));
    return this.putManifest(tag, indexType, { schemaVersion: 2, mediaType: indexType, manifests });
  }

  putManifest(tag: string, mediaType: string, manifest: object): string {
    const bytes = Buffer.from(JSON.stringify(manifest));
    const digest = sha256(bytes);
    for (const name of [tag, digest]) this.#manifests.set(name, { bytes, mediaType });
    return digest;
  }

  /** Lets a digest lead to what a tag stands for. */
  forgeManifest(digest: string, tag: string): void {
    const manifest = this.#manifests.get(tag);
    if (manifest) this.#manifests.set(digest, manifest);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://x');
    const { authorization, range } = request.headers;
    this.requests.push({ path: pathname, authorization, range });
    if (this.failures-- > 0) return void response.writeHead(503).end();
    if (pathname === '/token') return this.#giveToken(authorization, searchParams, response);
    if (!this.#mayRead(authorization)) {
      const realm = this.realm ?? `http://${this.host}/token`;
      const bearer = `Bearer realm="${realm}",service="registry",scope="repository:team/disk:pull"`;
      const challenge = this.scheme === 'basic' ? 'Basic realm="registry"' : bearer;
      return void response.writeHead(401, { 'www-authenticate': challenge }).end('{"errors":[]}');
    }
    const [, kind = '', name = ''] = /^\/v2\/team\/disk\/(manifests|blobs)\/(.+)$/.exec(pathname) ?? [];
    if (kind === 'manifests') {
      const manifest = this.#manifests.get(name);
      if (!manifest) return void response.writeHead(404).end();
      return void response.writeHead(200, { 'content-type': manifest.mediaType }).end(manifest.bytes);
    }
    if (this.storage !== null) return void response.writeHead(307, { location: `${this.storage}/${name}` }).end();
    this.#sendBlob(this.#blobs.get(name), range, response);
  }

  /** Without an ETag, as registries may. */
  #sendBlob(content: Buffer | undefined, range: string | undefined, response: ServerResponse): void {
    if (!content) return void response.writeHead(404).end();
    const start = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    const part = content.subarray(start);
    response.setHeader('content-length', part.length);
    if (start > 0) response.setHeader('content-range', `bytes ${start}-${content.length - 1}/${content.length}`);
    response.writeHead(start > 0 ? 206 : 200);
    if (part.length <= this.breakAfter) return void response.end(part);
    response.write(part.subarray(0, this.breakAfter), () => response.destroy());
  }

  #giveToken(authorization: string | undefined, query: URLSearchParams, response: ServerResponse): void {
    const asked = query.get('service') === 'registry' && query.get('scope') === 'repository:team/disk:pull';
    if (!asked || (this.login !== null && authorization !== this.#basic())) return void response.writeHead(401).end();
    const token = randomUUID();
    this.#tokens.add(token);
    setTimeout(() => this.#tokens.delete(token), this.tokenSeconds * 1000).unref();
    response.end(JSON.stringify({ token, expires_in: this.tokenSeconds }));
  }

  #mayRead(authorization: string | undefined): boolean {
    if (this.scheme === 'basic') return this.login === null || authorization === this.#basic();
    return this.#tokens.has(authorization?.replace('Bearer ', '') ?? '');
  }

  #basic(): string {
    return `Basic ${Buffer.from(`${this.login?.user}:${this.login?.password}`).toString('base64')}`;
  }
}
