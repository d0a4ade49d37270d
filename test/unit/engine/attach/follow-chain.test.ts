import { describe, expect, it } from 'vitest';
import { followChain } from '../../../../src/engine/attach/follow-chain.ts';
import type { BlockdevOptions } from '../../../../src/qemu/blockdev.ts';
import { type ChainLayer, layerIdSchema } from '../../../../src/store/records.ts';

const access = { direct: true, aio: 'threads', discard: true } as const;

function chainOf(...ids: string[]): ChainLayer[] {
  return ids.map((id) => ({
    id: layerIdSchema.parse(id),
    format: 'qcow2',
    path: `/pool/layers/${id}/data.qcow2`,
    virtualSizeBytes: 1,
  }));
}

/** A daemon whose nodes are stacked as `nodes` says, head first, with others that are in nobody's way. */
class Daemon {
  readonly done: string[] = [];
  readonly #backings: Map<string, string>;
  readonly #nodes: string[];

  constructor(nodes: string[], unused: string[] = []) {
    this.#nodes = [...nodes, ...unused];
    this.#backings = new Map(nodes.slice(1).map((node, index) => [nodes[index] ?? '', node]));
  }

  queryBlockGraph = async () => ({
    nodes: [...this.#nodes, ...this.#nodes.map((name) => `f-${name}`)],
    backings: this.#backings,
  });
  blockdevAdd = async (options: BlockdevOptions) => {
    const name = String(options['node-name']);
    this.#nodes.push(name);
    this.#back(name, options['backing']);
    this.done.push(`add ${name} on ${String(options['backing'])}`);
  };
  blockdevReopen = async (options: BlockdevOptions) => {
    const name = String(options['node-name']);
    this.#back(name, options['backing']);
    this.done.push(`reopen ${name} on ${String(options['backing'])}, read-only ${String(options['read-only'])}`);
  };
  blockdevDel = async (name: string) => {
    expect([...this.#backings.values()], 'what is removed has nothing above it').not.toContain(name);
    this.#nodes.splice(this.#nodes.indexOf(name), 1);
    this.#backings.delete(name);
    this.done.push(`remove ${name}`);
  };

  #back(name: string, backing: unknown): void {
    if (typeof backing === 'string') this.#backings.set(name, backing);
    else this.#backings.delete(name);
  }
}

const follow = (daemon: Daemon, chain: ChainLayer[]) =>
  followChain(daemon, chain[0]?.id ?? '', { chain, access, checkpoint: () => {} });

describe('following what was merged', () => {
  it('does nothing where nothing was', async () => {
    const daemon = new Daemon(['c', 'b', 'a']);
    await follow(daemon, chainOf('c', 'b', 'a'));
    expect(daemon.done).toEqual([]);
  });

  it('opens the rewritten file below its child, which can be written to where it is the head', async () => {
    const daemon = new Daemon(['c', 'b', 'a', 'base']);
    await follow(daemon, chainOf('c', 'b', 'base'));
    expect(daemon.done).toEqual(['add b.1 on base', 'reopen c on b.1, read-only false', 'remove b', 'remove a']);
  });

  it('does it topmost first where it is behind by several, and with nothing below the lowest', async () => {
    const daemon = new Daemon(['e', 'd.1', 'c', 'b', 'a']);
    await follow(daemon, chainOf('e', 'd', 'b'));
    expect(daemon.done).toEqual([
      'add d.2 on b',
      'reopen e on d.2, read-only false',
      'add b.1 on null',
      'reopen d.2 on b.1, read-only true',
      'remove d.1',
      'remove c',
      'remove b',
      'remove a',
    ]);
  });

  it('clears what an earlier try left, and goes on with what it had reached', async () => {
    const added = new Daemon(['c', 'b', 'a'], ['b.1']);
    await follow(added, chainOf('c', 'b'));
    expect(added.done.slice(0, 2)).toEqual(['add b.2 on null', 'reopen c on b.2, read-only false']);
    expect(added.done.slice(2).toSorted()).toEqual(['remove a', 'remove b', 'remove b.1']);
    const reopened = new Daemon(['c', 'b.1'], ['b', 'a']);
    await follow(reopened, chainOf('c', 'b'));
    expect(reopened.done).toEqual(['remove b', 'remove a']);
  });

  it.each([
    { what: 'whose head has another layer below', nodes: ['c', 'a'], chain: ['c', 'b', 'a'] },
    { what: 'that lacks a layer of the chain', nodes: ['c', 'b', 'a'], chain: ['c', 'b', 'x'] },
  ])('refuses a daemon $what, and changes nothing', async ({ nodes, chain }) => {
    const daemon = new Daemon(nodes);
    await expect(follow(daemon, chainOf(...chain))).rejects.toMatchObject({ code: 'graph-corrupt' });
    expect(daemon.done).toEqual([]);
  });
});
