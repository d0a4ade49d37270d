import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { request } from 'node:https';
import path from 'node:path';
import { promisify } from 'node:util';
import { selfSignedCertificate } from '../src/lib/certificate.ts';
import { systemClock } from '../src/lib/clock.ts';
import { TokenBucket } from '../src/lib/token-bucket.ts';
import type { Pool } from '../src/store/pool.ts';
import { ExportCache } from '../src/transfer/users/export-cache.ts';
import type { UploadSink } from '../src/transfer/users/take-upload.ts';
import type { UserRequest } from '../src/transfer/users/user-request.ts';
import {
  type ExportedContent,
  type Found,
  UserServer,
  type UserServerOptions,
} from '../src/transfer/users/user-server.ts';
import { ManualClock } from './fakes/manual-clock.ts';
import { MemoryLogger } from './fakes/memory-logger.ts';

const exec = promisify(execFile);

export interface UserSceneOptions {
  /** What the name of a DiskImage or VolumeSnapshot in the namespace `media` stands for: the same id in this pool. */
  pool?: Pool;
  uploadSink?: (name: string) => Promise<UploadSink>;
  findSink?: UserServerOptions['findSink'];
  findExport?: UserServerOptions['findExport'];
}

interface Moved {
  kind: string;
  bytes: number;
  result: string | undefined;
}

/** The name of what another node has. */
export const remoteName = 'remote';
const elsewhere = { nodeName: 'worker-2', address: '10.0.0.2:9444', serverName: 'worker-2.node.lamina.storage' };

/** What people exchange with a node, with one pool, and a client for it. The bearer of `good` may do everything. */
export class UserScene {
  readonly url: string;
  readonly exports: ExportCache;
  readonly log: MemoryLogger;
  /** What authorization was asked for. */
  readonly asked: [string, UserRequest][];
  /** What metrics are told. */
  readonly moves: Moved[];
  readonly #server: UserServer;
  readonly #authority: string;

  static async create(directory: string, options: UserSceneOptions): Promise<UserScene> {
    const { pool, uploadSink, findSink, findExport } = options;
    const names = ['localhost', '127.0.0.1'];
    const made = { commonName: 'lamina', names, now: new Date(), lifetimeMs: 3_600_000 };
    const certificate = await selfSignedCertificate(made);
    const authority = path.join(directory, 'ca.pem');
    writeFileSync(authority, certificate.certificate);
    const log = new MemoryLogger();
    // They end when a test closes them, and not because it takes long.
    const exports = new ExportCache(directory, new ManualClock());
    const asked: [string, UserRequest][] = [];
    const moves: Moved[] = [];
    const server = new UserServer({
      certificate,
      authorize: async (token, wanted) => {
        asked.push([token, wanted]);
        return token === 'good' ? 'allowed' : token === 'poor' ? 'forbidden' : 'unauthenticated';
      },
      findExport: async (wanted, signal): Promise<Found<ExportedContent>> => {
        if (findExport) return findExport(wanted, signal);
        const { resource, name } = wanted;
        if (name === remoteName) return { elsewhere };
        if (!pool) throw new Error('nothing is exported here');
        return { here: { pool, kind: resource === 'diskimages' ? 'image' : 'snapshot', id: name } };
      },
      findSink: async (wanted, signal) => {
        if (findSink) return findSink(wanted, signal);
        const { name } = wanted;
        if (name === remoteName) return { elsewhere };
        if (!uploadSink) throw new Error('no uploads here');
        return { here: await uploadSink(name) };
      },
      exports,
      limit: new TokenBucket(Number.POSITIVE_INFINITY, systemClock),
      begin: (kind) => {
        const moved: Moved = { kind, bytes: 0, result: undefined };
        moves.push(moved);
        return { addBytes: (bytes) => (moved.bytes += bytes), end: (result) => (moved.result = result) };
      },
      logger: log,
    });
    const { port } = await server.listen(0, '127.0.0.1');
    return new UserScene({
      url: `https://localhost:${port}/v1/namespaces/media`,
      exports,
      log,
      asked,
      moves,
      server,
      authority,
    });
  }

  private constructor(made: {
    url: string;
    exports: ExportCache;
    log: MemoryLogger;
    asked: [string, UserRequest][];
    moves: Moved[];
    server: UserServer;
    authority: string;
  }) {
    this.url = made.url;
    this.exports = made.exports;
    this.log = made.log;
    this.asked = made.asked;
    this.moves = made.moves;
    this.#server = made.server;
    this.#authority = made.authority;
  }

  get address(): string {
    return new URL(this.url).host;
  }

  /** PEM */
  get certificateAuthority(): string {
    return readFileSync(this.#authority, 'utf8');
  }

  /** @param where behind the namespace's URL */
  async curl(where: string, ...args: string[]): Promise<string> {
    const token = ['-H', 'Authorization: Bearer good'];
    const { stdout } = await exec('curl', ['-sSf', '--cacert', this.#authority, ...token, ...args, this.url + where]);
    return stdout;
  }

  /** @param write writes what is sent before the end, which then never comes */
  async ask(
    method: string,
    where: string,
    headers: Record<string, string> = {},
    body?: Buffer,
    write?: (sent: ClientRequest) => void,
  ) {
    const sent = request(`${this.url}${where}`, {
      method,
      headers: { authorization: 'Bearer good', ...headers },
      ca: readFileSync(this.#authority),
      agent: false,
    });
    if (write) write(sent);
    else sent.end(body);
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    const answer = Buffer.concat((await response.toArray()) as Buffer[]);
    return { status: response.statusCode, headers: response.headers, body: answer };
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.exports.close();
  }
}
