import * as z from 'zod/mini';
import { LaminaError } from '../lib/errors.ts';
import { QmpConnection } from './qmp-connection.ts';
import type { BlockdevOptions } from './blockdev.ts';

const namedNodes = z.array(
  z.object({
    'node-name': z.string(),
    drv: z.string(),
    ro: z.boolean(),
    image: z.object({ filename: z.string(), 'virtual-size': z.number() }),
  }),
);
const exports = z.array(
  z.object({ id: z.string(), type: z.string(), 'node-name': z.string(), 'shutting-down': z.boolean() }),
);

const blockGraph = z.object({
  nodes: z.array(z.object({ id: z.number(), type: z.string(), name: z.string() })),
  edges: z.array(z.object({ name: z.string(), parent: z.number(), child: z.number() })),
});

export interface BlockGraph {
  /** Node names. */
  nodes: string[];
  /** Which node each has as its backing, if any. */
  backings: ReadonlyMap<string, string>;
}

export interface BlockNode {
  nodeName: string;
  driver: string;
  readOnly: boolean;
  filename: string;
  virtualSizeBytes: number;
}

export interface BlockExport {
  id: string;
  type: string;
  /** The node it shows now: after blockdev-snapshot the overlay. */
  nodeName: string;
}

/**
 * The commands that a daemon in service is given, one method each, and no others: block jobs and throttle filters
 * deadlock QEMU 10's FUSE export under load. Failures as of QmpConnection.execute.
 */
export class QmpClient {
  readonly #connection: QmpConnection;
  readonly #timeoutMs: number;

  private constructor(connection: QmpConnection, timeoutMs: number) {
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
  }

  /** `timeoutMs` is the deadline of each command. */
  static async open(path: string, timeoutMs: number): Promise<QmpClient> {
    return new QmpClient(await QmpConnection.open(path, timeoutMs), timeoutMs);
  }

  close(): void {
    this.#connection.close();
  }

  async blockdevAdd(options: BlockdevOptions): Promise<void> {
    await this.#execute('blockdev-add', options);
  }

  /** From here on what was written to `node` goes to `overlay`, whose backing is `node`. */
  async blockdevSnapshot(node: string, overlay: string): Promise<void> {
    await this.#execute('blockdev-snapshot', { node, overlay });
  }

  /** Needs the node's whole options, not only what changes. */
  async blockdevReopen(options: BlockdevOptions): Promise<void> {
    await this.#execute('blockdev-reopen', { options: [options] });
  }

  async blockdevDel(nodeName: string): Promise<void> {
    await this.#execute('blockdev-del', { 'node-name': nodeName });
  }

  async blockResize(nodeName: string, sizeBytes: number): Promise<void> {
    await this.#execute('block_resize', { 'node-name': nodeName, size: sizeBytes });
  }

  async queryNamedBlockNodes(): Promise<BlockNode[]> {
    const reply = await this.#execute('query-named-block-nodes', { flat: true });
    return parseReply(namedNodes, 'query-named-block-nodes', reply).map((node) => ({
      nodeName: node['node-name'],
      driver: node.drv,
      readOnly: node.ro,
      filename: node.image.filename,
      virtualSizeBytes: node.image['virtual-size'],
    }));
  }

  async queryBlockGraph(): Promise<BlockGraph> {
    // Nothing else tells which node is the backing of which before QEMU 10.1.
    const reply = await this.#execute('x-debug-query-block-graph');
    const { nodes, edges } = parseReply(blockGraph, 'x-debug-query-block-graph', reply);
    const drivers = nodes.filter(({ type }) => type === 'block-driver');
    const names = new Map(drivers.map(({ id, name }) => [id, name]));
    const backings = edges.filter(({ name }) => name === 'backing');
    return {
      nodes: [...names.values()],
      backings: new Map(backings.map(({ parent, child }) => [names.get(parent) ?? '', names.get(child) ?? ''])),
    };
  }

  async queryBlockExports(): Promise<BlockExport[]> {
    const reply = await this.#execute('query-block-exports');
    return parseReply(exports, 'query-block-exports', reply).map((entry) => ({
      id: entry.id,
      type: entry.type,
      nodeName: entry['node-name'],
    }));
  }

  async quit(): Promise<void> {
    await this.#execute('quit');
  }

  #execute(command: string, args?: object): Promise<unknown> {
    return this.#connection.execute(command, args, this.#timeoutMs);
  }
}

function parseReply<T extends z.ZodMiniType>(schema: T, command: string, reply: unknown): z.infer<T> {
  const parsed = schema.safeParse(reply);
  if (parsed.success) return parsed.data;
  const problem = z.prettifyError(parsed.error).replaceAll('\n', ' ');
  throw new LaminaError('qmp-failed', `${command}: the reply is not what QEMU 10 sends: ${problem}`);
}
