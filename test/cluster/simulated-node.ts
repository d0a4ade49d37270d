import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pollUntil } from '../../src/lib/poll.ts';
import { CsiClient } from '../csi-client.ts';
import { clearBelow, loopsBelow, mountsBelow } from '../leaks.ts';
import { processesNaming } from '../standalone.ts';
import { Daemon } from './daemon.ts';

export const lamina = path.resolve(import.meta.dirname, '../../bin/lamina');

export interface PoolOptions {
  name: string;
  filesystem: 'ext4' | 'xfs';
  sizeBytes: number;
}

export interface SimulatedNodeOptions {
  name: string;
  /** Everything of the node is below it. */
  directory: string;
  pools: readonly PoolOptions[];
  kubeconfig: string;
  logs: string;
  /** Further arguments of `lamina node`. */
  args: readonly string[];
}

/** The directories of a pool that are empty without disks. */
const filled = ['layers', 'disks', 'snapshots', 'images', 'tmp'];

/** What runs on a node, but for kubelet: pools on file systems of their own, the engine, and the node plugin. */
export class SimulatedNode {
  readonly name: string;
  readonly directory: string;
  readonly engine: Daemon;
  readonly plugin: Daemon;
  readonly socket: string;
  readonly #pools: readonly PoolOptions[];

  constructor({ name, directory, pools, kubeconfig, logs, args }: SimulatedNodeOptions) {
    this.name = name;
    this.directory = directory;
    this.#pools = pools;
    this.socket = path.join(directory, 'csi.sock');
    const runDir = path.join(directory, 'run');
    const engine = ['engine', '--run-dir', path.join(runDir, 'engine')];
    this.engine = new Daemon({ name: `${name}-engine`, directory: logs, command: [lamina, ...engine] });
    const own = ['--node-name', name, '--socket', this.socket, '--run-dir', runDir, '--kubeconfig', kubeconfig];
    const served = pools.flatMap((pool) => ['--pool', `${pool.name}=${this.pool(pool.name)}`]);
    const command = [lamina, 'node', ...own, ...served, ...args] as const;
    this.plugin = new Daemon({ name: `${name}-node`, directory: logs, command });
  }

  /** Makes the pools where they are not there yet, and starts what does not run. */
  async start(): Promise<void> {
    for (const pool of this.#pools) this.#mountPool(pool);
    await this.engine.start();
    await this.plugin.start();
    await this.untilReady();
  }

  /** @throws with the plugin's last words where it is not ready within two minutes */
  async untilReady(): Promise<void> {
    const csi = this.connect();
    const ready = await pollUntil(() => csi.isReady(), { timeoutMs: 120_000, intervalMs: 50 });
    csi.close();
    if (!ready) throw new Error(`the plugin of ${this.name} is not ready:\n${this.plugin.lastWords()}`);
  }

  /** Its CSI socket, as kubelet calls it. */
  connect(): CsiClient {
    return new CsiClient(this.socket);
  }

  /** The directory of a pool. */
  pool(name = 'default'): string {
    return path.join(this.directory, 'pools', name);
  }

  /** What volumes have left on the node: processes, mounts, devices and files beside those of a node without any. */
  async leftovers(): Promise<string[]> {
    const own = [this.engine.pid, this.plugin.pid];
    const daemons = (await processesNaming(this.directory)).filter(({ pid }) => !own.includes(pid));
    const pools = this.#pools.map(({ name }) => this.pool(name));
    const mounts = mountsBelow(this.directory).filter((line) => !pools.some((pool) => line.includes(` ${pool} `)));
    const loops = loopsBelow(this.directory).filter((line) => !line.endsWith('.img'));
    const files = pools.flatMap((pool) => filled.flatMap((name) => entriesOf(path.join(pool, name))));
    return [...daemons.map(({ pid, command }) => `process ${pid}: ${command}`), ...mounts, ...loops, ...files];
  }

  /** Ends it as a power cut does, and takes away what is left of it, its pools included. */
  async destroy(): Promise<void> {
    await this.plugin.kill9();
    await this.engine.kill9();
    await clearBelow(this.directory);
  }

  #mountPool({ name, filesystem, sizeBytes }: PoolOptions): void {
    const directory = this.pool(name);
    const image = `${directory}.img`;
    if (!existsSync(image)) {
      mkdirSync(directory, { recursive: true });
      writeFileSync(image, '');
      truncateSync(image, sizeBytes);
      execFileSync(`mkfs.${filesystem}`, ['-q', image]);
    }
    if (!mountsBelow(this.directory).some((line) => line.includes(` ${directory} `))) {
      execFileSync('mount', ['-o', 'loop', image, directory]);
    }
  }
}

function entriesOf(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).map((name) => path.join(directory, name)) : [];
}
