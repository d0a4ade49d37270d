import { readFileSync } from 'node:fs';
import path from 'node:path';
import { freePort } from '../free-port.ts';
import * as kinds from '../cluster/kinds.ts';
import { writeNodeKubeconfig } from '../cluster/node-account.ts';
import type { SimulatedNode } from '../cluster/simulated-node.ts';
import type { Scene } from './stories.ts';

/** Nodes of a story's own, which give layers to each other; each with one pool, on ext4. */
export class GivingNodes {
  readonly #scene: () => Scene;
  readonly #nodes = new Map<string, SimulatedNode>();

  constructor(scene: () => Scene) {
    this.#scene = scene;
  }

  /** @param more arguments of `lamina node` */
  async add(name: string, sizeBytes: number, more: readonly string[] = []): Promise<void> {
    const { cluster, kube } = this.#scene();
    await cluster.addNode(name);
    const kubeconfig = path.join(cluster.logs, `${name}.kubeconfig`);
    await writeNodeKubeconfig(kube, name, cluster.controlPlane.kubeconfig, kubeconfig);
    const address = `127.0.0.1:${await freePort()}`;
    // Of an option that is given twice the last one counts.
    const args = ['--kubeconfig', kubeconfig, '--transfer-listen', address, '--transfer-address', address, ...more];
    const node = cluster.simulatedNode(name, [{ name: 'default', filesystem: 'ext4', sizeBytes }], args);
    this.#nodes.set(name, node);
    await node.start();
  }

  /** @throws where it was not added */
  get(name: string): SimulatedNode {
    const node = this.#nodes.get(name);
    if (!node) throw new Error(`there is no node ${name}`);
    return node;
  }

  /** As a power cut does, after which an administrator gives it up. */
  async remove(name: string): Promise<void> {
    const { kube } = this.#scene();
    await this.get(name).destroy();
    this.#nodes.delete(name);
    await kube.nodes.removeIfPresent({ name });
    await kube.of(kinds.csiNodes).removeIfPresent({ name });
  }

  async removeAll(): Promise<void> {
    for (const name of [...this.#nodes.keys()]) await this.remove(name);
  }

  /** How many times a layer was sent from one to another. */
  sent(): number {
    const logs = [...this.#nodes.values()].map(({ plugin }) => readFileSync(plugin.logFile, 'utf8'));
    return logs.reduce((sum, log) => sum + log.split('"sending a layer"').length - 1, 0);
  }
}
