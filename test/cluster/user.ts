import { nodeTopologyKey } from '../../src/api/names.ts';
import type { KubeObject } from '../../src/kube/objects.ts';
import type { ResourceClient } from '../../src/kube/client/resource-client.ts';
import type { Claim, Event, Volume } from './kinds.ts';
import type { DiskImage, Kube } from './kube.ts';
import { claim, type ClaimOptions, pod, type PodOptions, userNamespace } from './objects.ts';
import { until } from './until.ts';

type Kind = 'claims' | 'pods' | 'snapshots' | 'diskImages' | 'diskSnapshots';

/** A claim with its volume. */
export interface Bound {
  claim: Claim;
  volume: Volume;
  /** The node that has the volume. */
  node: string;
}

/** What a user does with kubectl in one namespace. */
export class User {
  readonly #kube: Kube;
  readonly namespace: string;

  constructor(kube: Kube, namespace: string = userNamespace) {
    this.#kube = kube;
    this.namespace = namespace;
  }

  /** Where an object of the namespace is. */
  at(name: string): { namespace: string; name: string } {
    return { namespace: this.namespace, name };
  }

  async claim(options: ClaimOptions): Promise<void> {
    await this.#kube.claims.create(claim(this.namespace, options));
  }

  async pod(options: PodOptions): Promise<void> {
    await this.#kube.pods.create(pod(this.namespace, options));
  }

  /** A claim, and a pod of the same name that uses it; waits for the volume. */
  async claimWithPod(options: ClaimOptions & Pick<PodOptions, 'node'>): Promise<Bound> {
    const { node, ...wanted } = options;
    await this.claim(wanted);
    await this.pod({ name: options.name, claims: [options.name], ...(node ? { node } : {}) });
    return this.bound(options.name);
  }

  /** Waits until a claim has its volume. @throws with its events where it does not get one */
  async bound(name: string, timeoutMs?: number): Promise<Bound> {
    const found = await until(
      `the claim ${name} is bound`,
      async () => {
        const bound = await this.#kube.claims.get(this.at(name));
        return bound?.status?.phase === 'Bound' ? bound : undefined;
      },
      { more: () => this.eventsOf(name), ...(timeoutMs ? { timeoutMs } : {}) },
    );
    const volume = await this.#kube.volumes.get({ name: found.spec.volumeName ?? '' });
    if (!volume) throw new Error(`the claim ${name} is bound to a volume that is not there`);
    return { claim: found, volume, node: nodeOf(volume) };
  }

  /** Waits until a pod is scheduled. @returns the node */
  async scheduled(name: string): Promise<string> {
    const isScheduled = async () => (await this.#kube.pods.get(this.at(name)))?.spec.nodeName;
    return until(`the pod ${name} is scheduled`, isScheduled, { more: () => this.eventsOf(name) });
  }

  /** Takes a snapshot of a claim's volume, and waits until it is ready. */
  async snapshot(name: string, claimName: string): Promise<void> {
    await this.declareSnapshot(name, claimName);
    await this.snapshotReady(name);
  }

  async declareSnapshot(name: string, claimName: string): Promise<void> {
    const source = { persistentVolumeClaimName: claimName };
    const manifest = { metadata: this.at(name), spec: { volumeSnapshotClassName: 'lamina', source } };
    await this.#kube.snapshots.create(manifest);
  }

  async snapshotReady(name: string): Promise<void> {
    await until(
      `the snapshot ${name} is ready`,
      async () => (await this.#kube.snapshots.get(this.at(name)))?.status?.readyToUse || undefined,
      { more: () => this.eventsOf(name) },
    );
  }

  /** Asks for a bigger volume. @param size `128Mi` */
  async grow(name: string, size: string): Promise<void> {
    await this.#kube.claims.mergePatch(this.at(name), { spec: { resources: { requests: { storage: size } } } });
  }

  /** Declares a DiskImage. @param spec as in YAML */
  async declareDisk(name: string, spec: object): Promise<void> {
    await this.#kube.diskImages.create({ ...{ spec }, metadata: this.at(name) });
  }

  /** Waits until a DiskImage has a condition. @returns it */
  async diskWith(name: string, condition: string, status: 'True' | 'False' = 'True'): Promise<DiskImage> {
    let last: DiskImage | undefined;
    return until(
      `the DiskImage ${name} is ${condition}=${status}`,
      async () => {
        last = await this.#kube.diskImages.get(this.at(name));
        return last?.status.conditions.some((is) => is.type === condition && is.status === status) ? last : undefined;
      },
      { more: () => JSON.stringify(last?.status) },
    );
  }

  /** Deletes objects of the namespace at once, without waiting for it. */
  async remove(kind: Kind, ...names: readonly string[]): Promise<void> {
    const resource: ResourceClient<KubeObject> = this.#kube[kind];
    await Promise.all(names.map((name) => resource.removeIfPresent(this.at(name))));
  }

  /** Waits until an object of the namespace is gone. */
  async gone(kind: Kind, name: string): Promise<void> {
    const resource: ResourceClient<KubeObject> = this.#kube[kind];
    const isGone = async () => ((await resource.get(this.at(name))) ? undefined : true);
    await until(`${resource.type.kind} ${name} is gone`, isGone, { more: () => this.eventsOf(name) });
  }

  /** The events of an object, for a person to read. */
  async eventsOf(name: string): Promise<string> {
    const events = await this.events(name);
    return events.map(({ type, reason, message }) => `${type} ${reason}: ${message}`).join('\n');
  }

  async events(name: string): Promise<Event[]> {
    const fieldSelector = `involvedObject.name=${name}`;
    return this.#kube.events.list({ namespace: this.namespace, fieldSelector });
  }
}

/** The node that has a volume. */
export function nodeOf({ metadata, spec }: Volume): string {
  const terms = spec.nodeAffinity?.required.nodeSelectorTerms ?? [];
  const nodes = terms.flatMap(({ matchExpressions }) =>
    matchExpressions.filter(({ key }) => key === nodeTopologyKey).flatMap(({ values }) => values),
  );
  if (nodes.length !== 1) throw new Error(`PersistentVolume ${metadata.name} is on ${nodes.length} nodes`);
  return nodes[0] as string;
}
