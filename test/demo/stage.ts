import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { run } from '../../src/lib/exec.ts';
import type { CreatedVolume, CreateOptions, CsiClient } from '../csi-client.ts';
import { type Standalone, startStandalone } from '../standalone.ts';
import type { Workspace } from '../workspace.ts';
import { compareFiles, type FileSet } from './machine-files.ts';

const lamina = path.resolve(import.meta.dirname, '../../bin/lamina');

interface Node {
  disks: string[];
  allocatedBytes: number;
  overlays: Node[];
}

const nodeSchema: z.ZodType<Node> = z.object({
  disks: z.array(z.string()),
  allocatedBytes: z.number(),
  get overlays() {
    return z.array(nodeSchema);
  },
});
const treeSchema = z.object({ roots: z.array(nodeSchema) });

/** What the steps of the demo act on: one workspace with a driver that may be killed and started again. */
export class Stage {
  readonly workspace: Workspace;
  #standalone: Standalone | null = null;
  readonly volumes: CreatedVolume[] = [];
  filesCompared = 0;

  constructor(workspace: Workspace) {
    this.workspace = workspace;
  }

  /** What the driver wrote to standard error since it was started last. */
  get driverLog(): string {
    return this.#standalone?.stderr() ?? '';
  }

  get csi(): CsiClient {
    if (!this.#standalone) throw new Error('the driver is not started');
    return this.#standalone.client;
  }

  async start(): Promise<void> {
    const { pool, socket, runDir } = this.workspace;
    // The volumes of the story promise more than a small machine has; they never use it.
    this.#standalone = await startStandalone({
      pool,
      socket,
      runDir,
      args: ['--overcommit', '100', '--log-level', 'warn'],
    });
  }

  async stop(): Promise<void> {
    await this.#standalone?.stop();
    this.#standalone = null;
  }

  async kill9(): Promise<void> {
    await this.#standalone?.kill9();
    this.#standalone = null;
  }

  async create(options: CreateOptions): Promise<CreatedVolume> {
    const volume = await this.csi.createVolume(options);
    this.volumes.push(volume);
    return volume;
  }

  /** Where the sums of a set of files are kept. */
  sumsFile(name: string): string {
    return path.join(this.workspace.directory, `${name}.sha256`);
  }

  /** @throws where a file differs */
  async compare(target: string, { names, sums }: FileSet): Promise<void> {
    await compareFiles(target, sums);
    this.filesCompared += names.length;
  }

  /** @returns where it is mounted */
  mount(volume: CreatedVolume): Promise<string> {
    return this.csi.attach(volume, this.workspace.mounts);
  }

  unmount(volume: CreatedVolume): Promise<void> {
    return this.csi.detach(volume.id, this.workspace.mounts);
  }

  /** What the file that a volume writes to occupies. */
  async allocatedBytes(volume: CreatedVolume): Promise<number> {
    const { stdout } = await run(lamina, ['tree', '--json', this.workspace.pool], { timeoutMs: 30_000 });
    const find = (nodes: readonly Node[]): Node | undefined =>
      nodes.find(({ disks }) => disks.includes(volume.id)) ?? nodes.map(({ overlays }) => find(overlays)).find(Boolean);
    const node = find(treeSchema.parse(JSON.parse(stdout)).roots);
    if (!node) throw new Error(`lamina tree does not show ${volume.id}`);
    return node.allocatedBytes;
  }

  async tree(): Promise<string[]> {
    const { stdout } = await run(lamina, ['tree', this.workspace.pool], { timeoutMs: 30_000 });
    return stdout.split('\n');
  }

  /** Fails where the pool is not clean. */
  async check(): Promise<void> {
    await run(lamina, ['check', this.workspace.pool], { timeoutMs: 300_000 });
  }
}

/** The block device that is mounted at `target`. */
export async function deviceAt(target: string): Promise<string> {
  const { stdout } = await run('findmnt', ['--noheadings', '--output', 'SOURCE', '--mountpoint', target], {
    timeoutMs: 30_000,
  });
  return stdout.trim();
}

/** `10.0.2` */
export async function qemuVersion(): Promise<string> {
  const { stdout } = await run('qemu-storage-daemon', ['--version'], { timeoutMs: 30_000 });
  return /version (\S+)/.exec(stdout)?.[1] ?? stdout;
}

export async function operatingSystem(): Promise<string> {
  const release = await readFile('/etc/os-release', 'utf8');
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(release)?.[1] ?? 'Linux';
}

/** Linux lets only CAP_SYS_RESOURCE grow a mounted ext4; root in a container often has not got it. XFS asks for less. */
export async function growableFilesystem(): Promise<'ext4' | 'xfs'> {
  const sysResource = 1n << 24n;
  const status = await readFile('/proc/self/status', 'utf8');
  const capabilities = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return (capabilities & sysResource) === 0n ? 'xfs' : 'ext4';
}
