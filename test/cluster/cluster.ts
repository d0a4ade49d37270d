import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'yaml';
import { driverName, nodeTopologyKey } from '../../src/api/names.ts';
import { isAlreadyExists } from '../../src/kube/client/api-error.ts';
import type { KubeObject, Manifest } from '../../src/kube/objects.ts';
import { keyOf } from '../../src/kube/objects.ts';
import type { ResourceType } from '../../src/kube/client/resource-type.ts';
import { GiB } from '../../src/lib/bytes.ts';
import { CsiClient } from '../csi-client.ts';
import { clearBelow } from '../leaks.ts';
import { ControlPlane } from './control-plane.ts';
import { Daemon } from './daemon.ts';
import * as kinds from './kinds.ts';
import { connectKube, type Kube } from './kube.ts';
import { installation, storageClasses, systemNamespace, userNamespace } from './objects.ts';
import { provisionerOf, type SidecarOptions, sidecarsOf } from './sidecars.ts';
import { lamina, type PoolOptions, SimulatedNode } from './simulated-node.ts';
import type { Testbed } from './testbed.ts';
import { until } from './until.ts';

const crds = path.resolve(import.meta.dirname, '../../crds');

/** How pools promise more than they have, so that many small stories fit into them. */
export const overcommit = 20;

const nodePools: Record<string, readonly PoolOptions[]> = {
  'worker-a': [{ name: 'default', filesystem: 'ext4', sizeBytes: 4 * GiB }],
  'worker-b': [
    { name: 'default', filesystem: 'xfs', sizeBytes: 6 * GiB },
    { name: 'second', filesystem: 'ext4', sizeBytes: GiB },
  ],
};

export interface ClusterOptions {
  testbed: Testbed;
  /** Everything of it is below; a short path, because sockets are. */
  directory: string;
  /** Of the API server; the next two are etcd's. */
  port: number;
}

/** A control plane, the sidecars and the controller, and two nodes that have nothing but local disks: all on this machine. */
export class Cluster {
  readonly kube: Kube;
  readonly controlPlane: ControlPlane;
  readonly controller: Daemon;
  readonly sidecars: readonly Daemon[];
  readonly workerA: SimulatedNode;
  readonly workerB: SimulatedNode;
  readonly #options: ClusterOptions;

  private constructor(options: ClusterOptions, controlPlane: ControlPlane, kube: Kube) {
    this.#options = options;
    this.controlPlane = controlPlane;
    this.kube = kube;
    this.controller = this.controllerDaemon('controller');
    this.sidecars = sidecarsOf(this.#sidecarOptions(this.controllerSocket('controller')));
    this.workerA = this.simulatedNode('worker-a');
    this.workerB = this.simulatedNode('worker-b');
  }

  /** Starts all that does not run yet. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const controlPlane = new ControlPlane(options.testbed, options.directory, options.port);
    await controlPlane.start();
    const cluster = new Cluster(options, controlPlane, await connectKube(controlPlane.kubeconfig));
    await cluster.#install();
    await cluster.startRoles();
    return cluster;
  }

  get nodes(): SimulatedNode[] {
    return [this.workerA, this.workerB];
  }

  get logs(): string {
    return path.join(this.#options.directory, 'logs');
  }

  /** Starts what does not run of the roles and sidecars, and waits until volumes can be made. */
  async startRoles(): Promise<void> {
    await this.controller.start();
    await Promise.all([...this.sidecars.map((sidecar) => sidecar.start()), ...this.nodes.map((node) => node.start())]);
    await this.#untilReady();
  }

  /** A controller of its own, for a story about several of them. */
  controllerDaemon(name: string, args: readonly string[] = []): Daemon {
    const { kubeconfig } = this.controlPlane;
    const own = ['--socket', this.controllerSocket(name), '--identity', name, '--kubeconfig', kubeconfig];
    const common = ['--namespace', systemNamespace, '--orphan-grace', '20'];
    return new Daemon({ name, directory: this.logs, command: [lamina, 'controller', ...own, ...common, ...args] });
  }

  /** A provisioner of its own, for another driver. */
  provisioner(name: string, socket: string): Daemon {
    return provisionerOf(this.#sidecarOptions(socket), name, []);
  }

  controllerSocket(name: string): string {
    return path.join(this.#options.directory, `${name}.sock`);
  }

  /** The controller's CSI socket, as the sidecars call it. */
  connectController(name = 'controller'): CsiClient {
    return new CsiClient(this.controllerSocket(name));
  }

  /** One of the two nodes, or with `pools` a further one, whose objects are not made yet. @param args of `lamina node`, beside those that all have */
  simulatedNode(
    name: string,
    pools: readonly PoolOptions[] = nodePools[name] ?? [],
    args: readonly string[] = [],
  ): SimulatedNode {
    return new SimulatedNode({
      name,
      pools,
      directory: path.join(this.#options.directory, name),
      kubeconfig: this.controlPlane.kubeconfig,
      logs: this.logs,
      args: ['--namespace', systemNamespace, '--overcommit', String(overcommit), ...args],
    });
  }

  /** Makes a Node that is ready for ever, with the driver registered. */
  async addNode(name: string): Promise<void> {
    await this.controlPlane.addNode(name, driverName, nodeTopologyKey);
  }

  /** Waits until pods can be made in a namespace that is new. */
  async takesPods(namespace: string): Promise<void> {
    const accounts = this.kube.of(kinds.serviceAccounts);
    await until('pods can be made', () => accounts.get({ namespace, name: 'default' }));
  }

  /** What the stories have left: objects, and on the nodes processes, mounts, devices and files. Empty when all is deleted. */
  async leftovers(): Promise<string[]> {
    const { claims, volumes, pods, snapshots, contents, diskImages, diskSnapshots } = this.kube;
    const lists = [claims, volumes, pods, snapshots, contents, diskImages, diskSnapshots].map(async (resource) => {
      const objects: KubeObject[] = await resource.list();
      return objects.map(({ metadata }) => `${resource.type.kind} ${keyOf(metadata)}`);
    });
    const objects = (await Promise.all(lists)).flat();
    const own = this.nodes.map(({ name }) => name);
    const pools = (await this.kube.diskPools.list()).filter(({ spec }) => !own.includes(spec.nodeName));
    objects.push(...pools.map(({ metadata }) => `DiskPool ${metadata.name}`));
    return [...objects, ...(await Promise.all(this.nodes.map((node) => node.leftovers()))).flat()];
  }

  close(): void {
    this.kube.close();
  }

  /** Ends everything and forgets what was stored. Works whatever state it is in. */
  static async destroy({ testbed, directory, port }: ClusterOptions): Promise<void> {
    await new ControlPlane(testbed, directory, port).stop();
    await clearBelow(directory);
  }

  #sidecarOptions(socket: string): SidecarOptions {
    const { kubeconfig } = this.controlPlane;
    return { testbed: this.#options.testbed, kubeconfig, socket, namespace: systemNamespace, logs: this.logs };
  }

  async #install(): Promise<void> {
    for (const file of await readdir(crds)) {
      await this.#ensure(kinds.definitions, parse(await readFile(path.join(crds, file), 'utf8'), { version: '1.1' }));
    }
    for (const [type, manifest] of installation()) await this.#ensure(type, manifest);
    for (const { name } of this.nodes) if (!(await this.kube.nodes.get({ name }))) await this.addNode(name);
    await until('the definitions are served', async () => {
      const served = [this.kube.diskImages, this.kube.diskSnapshots, this.kube.diskPools].map((kind) => kind.list());
      return Promise.all(served).catch(() => undefined);
    });
    await this.takesPods(userNamespace);
  }

  async #ensure(type: ResourceType<KubeObject>, manifest: Manifest): Promise<void> {
    await this.kube
      .of(type)
      .create(manifest)
      .catch((error: unknown) => {
        if (!isAlreadyExists(error)) throw error;
      });
  }

  async #untilReady(): Promise<void> {
    const csi = this.connectController();
    const isReady = async () => (await csi.isReady()) || undefined;
    await until('the controller is ready', isReady, { more: () => this.controller.lastWords() });
    csi.close();
    // Without them the scheduler takes the nodes for full.
    const wanted = Object.values(storageClasses).filter((own) => !('volumeBindingMode' in own)).length * 2;
    await until('the room in the pools is known', async () => {
      const known = await this.kube.capacities.list({ namespace: systemNamespace });
      return known.length >= wanted || undefined;
    });
  }
}
