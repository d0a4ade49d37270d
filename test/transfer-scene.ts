import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { CertifiedKey } from '../src/lib/certificate.ts';
import { issue, makeAuthority } from '../src/transfer/identity/certificates.ts';
import type { Credentials } from '../src/transfer/identity/credentials.ts';
import type { Role } from '../src/transfer/identity/identity-names.ts';
import type { Peer } from '../src/transfer/layers/peer.ts';
import { type DetachedPool, thin } from './detached-pool.ts';
import type { TransferFixture } from './fixtures/transfer-node.ts';
import { type NodeOptions, openTransferNode, type TransferNode } from './transfer-node.ts';

const fixture = path.join(import.meta.dirname, 'fixtures/transfer-node.ts');
export const hourMs = 3_600_000;

interface Otherwise {
  role?: Role;
  issuer?: CertifiedKey;
  trusted?: CertifiedKey[];
  /** When it was made. */
  now?: Date;
}

/** Nodes that trust one authority, each with a pool below one directory. */
export class TransferScene {
  readonly directory: string;
  readonly authority: CertifiedKey;
  readonly #nodes = new Set<TransferNode>();
  readonly #processes = new Set<NodeProcess>();

  static async create(directory: string): Promise<TransferScene> {
    return new TransferScene(directory, await newAuthority());
  }

  private constructor(directory: string, authority: CertifiedKey) {
    this.directory = directory;
    this.authority = authority;
  }

  /** Of a node that trusts this scene's authority and is trusted; but for what is said otherwise. */
  async credentials(name: string, otherwise: Otherwise = {}): Promise<Credentials> {
    const { role = 'node', issuer = this.authority, trusted = [this.authority], now = new Date() } = otherwise;
    const own = await issue(issuer, { role, name }, { now, lifetimeMs: hourMs });
    return { ...own, authorities: trusted.map(({ certificate }) => certificate) };
  }

  /** A node in this process. @param name its pool is in the directory of this name, which may be there already */
  async addNode(name: string, options: Partial<NodeOptions> = {}): Promise<TransferNode> {
    const credentials = await this.credentials(name);
    const node = await openTransferNode({ directory: path.join(this.directory, name), name, credentials, ...options });
    this.#nodes.add(node);
    return node;
  }

  async removeNode(node: TransferNode): Promise<void> {
    this.#nodes.delete(node);
    await node.close();
  }

  /** A node as a process of its own, which can be killed. */
  async startNode(name: string, options: Omit<TransferFixture, 'node'> = {}): Promise<NodeProcess> {
    const credentials = await this.credentials(name);
    const file = path.join(this.directory, `${name}.options.json`);
    const node = { directory: path.join(this.directory, name), name, credentials };
    writeFileSync(file, JSON.stringify({ node, ...options }));
    const started = await NodeProcess.start(name, file);
    this.#processes.add(started);
    return started;
  }

  async close(): Promise<void> {
    for (const each of this.#processes) await each.kill();
    for (const node of this.#nodes) await node.close();
  }
}

/** One that has been there for a while. */
export function newAuthority(): Promise<CertifiedKey> {
  return makeAuthority({ now: new Date(Date.now() - 24 * hourMs), lifetimeMs: 48 * hourMs });
}

/** test/fixtures/transfer-node.ts, running. */
export class NodeProcess {
  readonly peer: Peer;
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #ended: Promise<unknown>;

  static async start(name: string, optionsFile: string): Promise<NodeProcess> {
    const child = spawn(process.execPath, [fixture, optionsFile], { stdio: ['ignore', 'pipe', 'inherit'] });
    // Nothing but the end comes where it could not start.
    const [first] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [Buffer | number];
    if (!Buffer.isBuffer(first)) throw new Error(`node ${name} did not start`);
    return new NodeProcess({ node: name, address: first.toString().trim() }, child);
  }

  private constructor(peer: Peer, child: ChildProcessByStdio<null, Readable, null>) {
    this.peer = peer;
    this.#child = child;
    this.#ended = once(child, 'exit');
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  /** How it ended by itself: an exit code or a signal. */
  async end(): Promise<number | string | null> {
    await this.#ended;
    return this.#child.signalCode ?? this.#child.exitCode;
  }
}

/** Fails where two layers do not read the same. */
export function expectSameContent(a: DetachedPool, b: DetachedPool, layer: string): void {
  const [first, second] = [a, b].map(({ pool }) => pool.chainLayer(layer as never));
  if (!first || !second) throw new Error('no layers');
  execFileSync('qemu-img', ['compare', '-f', first.format, '-F', second.format, first.path, second.path]);
}

/** Layers whose transfer a node has begun to serve, each time. */
export function sentLayers({ log }: TransferNode): string[] {
  return log.entries
    .filter(({ message }) => message === 'sending a layer')
    .map(({ fields }) => String(fields['layer']));
}

export async function createDisk({ disks }: DetachedPool, name: string, requiredBytes: number, options = {}) {
  const size = { requiredBytes, limitBytes: 0 };
  return disks.create({ name, size, options: { ...thin, ...options }, source: null });
}
