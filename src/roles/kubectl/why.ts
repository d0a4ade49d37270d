import { failureCode } from '../../api/conditions.ts';
import { annotations, diskPoolName, driverName } from '../../api/names.ts';
import { type DiskImage, diskImages, type DiskPool, diskPools } from '../../api/objects.ts';
import type { KubeClient } from '../../kube/client/client.ts';
import { type Condition, findCondition } from '../../kube/conditions.ts';
import { selectedNodeAnnotation } from '../../kube/kinds/core-kinds.ts';
import { keyOf, type ObjectRef } from '../../kube/objects.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { formatBytes } from '../../lib/bytes.ts';
import {
  type Claim,
  claims,
  type CoreEvent,
  events,
  type Pod,
  pods,
  type StorageClass,
  storageClasses,
  volumes,
} from './objects.ts';
import { formatAge } from './text.ts';

const maxEvents = 3;

/** What a person can do about a reason, beyond what its message says. */
const advice: Readonly<Record<string, string>> = {
  NoRoom: "make room or add space ('kubectl lamina pools' shows where), or delete the claim",
  PoolFull: "make room or add space ('kubectl lamina pools' shows where), or delete the claim",
  PoolNotFound: "use a pool that there is ('kubectl lamina pools' lists them), or have the node plugin serve that one",
  PoolMissing: 'mount what holds the pool on that node',
  PoolReplaced: 'mount what held the pool on that node before, or have the new one served as the message says',
  DeviceMissing: "load the module that the message names on that node, or have the node's /dev mounted",
  WaitingForUpload: 'send the file of the disk image, as the message says',
  NodeSilent: "look at the node, and at the node plugin's pod on it",
  Stopped: "look at the node plugin's pod on that node",
  EngineDead: 'delete the pod that uses the volume: it is attached anew, and what was flushed is safe',
  EngineUnavailable: "look at the engine's pod on that node",
  Lost: 'find out what became of the pool; the data is gone if nobody moved it',
};

/** Walks from a claim to the pool that holds its disk, and says in sentences what is waited for, and what to do. */
export class ClaimExplanation {
  readonly #client: KubeClient;
  readonly #now: Date;
  readonly #said: string[] = [];
  readonly #toDo = new Set<string>();

  constructor(client: KubeClient, now: Date) {
    this.#client = client;
    this.#now = now;
  }

  /** Whether nothing is waited for. */
  get isSettled(): boolean {
    return this.#toDo.size === 0;
  }

  get text(): string {
    const toDo = [...this.#toDo].map((what) => `To do: ${what}.`);
    return [...this.#said, ...(toDo.length > 0 ? ['', ...toDo] : ['Nothing is waited for.'])].join('\n');
  }

  async explain(ref: ObjectRef): Promise<void> {
    const claim = await new ResourceClient(this.#client, claims).get(ref);
    if (!claim) {
      this.#say(`There is no PersistentVolumeClaim ${keyOf(ref)}.`);
      return this.#advise('check the name, and the namespace (-n)');
    }
    const { storageClassName: name, resources } = claim.spec;
    const phase = claim.metadata.deletionTimestamp ? 'being deleted' : (claim.status?.phase ?? 'Pending');
    const size = resources?.requests?.storage ?? 'no size';
    this.#say(`PersistentVolumeClaim ${keyOf(ref)} is ${phase}: ${size}, StorageClass ${name || '(none)'}.`);
    const using = await this.#podsOf(claim);
    if (claim.status?.phase === 'Bound') return this.#explainBound(claim, using);
    const image = (await this.#isOurs(claim, using)) ? await this.#imageOf(claim) : undefined;
    await this.#tellEvents(claim);
    if (image) await this.#explainImage(image);
  }

  async #explainBound({ spec }: Claim, using: readonly Pod[]): Promise<void> {
    const name = spec.volumeName ?? '';
    const volume = await new ResourceClient(this.#client, volumes).get({ name });
    if (!volume) {
      this.#say(`Its PersistentVolume ${name} is gone.`);
      return this.#advise('make a new claim; the disk is listed by its pool if it is still there');
    }
    const { csi } = volume.spec;
    if (csi?.driver !== driverName)
      return this.#say(`Its volume is ${csi?.driver ?? 'no CSI driver'}'s, not Lamina's.`);
    const image = (await this.#images()).find(({ metadata }) => metadata.name === csi.volumeHandle);
    if (image) await this.#explainImage(image);
    else {
      this.#say(`There is no DiskImage ${csi.volumeHandle} for its PersistentVolume ${name}.`);
      this.#advise("look at the controller's log; the disk is adopted again if a pool holds it");
    }
    for (const pod of using) await this.#explainPod(pod);
  }

  /** Whether Lamina has, or soon will have, been asked for the volume; says why not otherwise. */
  async #isOurs(claim: Claim, using: readonly Pod[]): Promise<boolean> {
    const name = claim.spec.storageClassName;
    const storageClass = name ? await new ResourceClient(this.#client, storageClasses).get({ name }) : undefined;
    if (!storageClass) {
      this.#say(name ? `There is no StorageClass ${name}.` : 'It has no StorageClass, and the cluster no default one.');
      this.#advise('make a claim that names a StorageClass of Lamina');
      return false;
    }
    if (storageClass.provisioner !== driverName) {
      this.#say(`StorageClass ${name} is ${storageClass.provisioner}'s, not Lamina's.`);
      this.#advise(`ask whoever runs ${storageClass.provisioner}`);
      return false;
    }
    return this.#isAskedFor(claim, storageClass, using);
  }

  async #isAskedFor({ metadata }: Claim, { volumeBindingMode }: StorageClass, using: readonly Pod[]): Promise<boolean> {
    const node = metadata.annotations?.[selectedNodeAnnotation];
    if (node !== undefined) this.#say(`The scheduler chose the node ${node} for it.`);
    if (node !== undefined || volumeBindingMode !== 'WaitForFirstConsumer') return true;
    if (using.length === 0) {
      this.#say('It waits for the first pod that uses it: only then is a node chosen (WaitForFirstConsumer).');
      this.#advise('make the pod');
    }
    for (const { metadata: pod, status } of using) {
      const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
      this.#say(
        `It waits until pod ${pod.name} is scheduled: ${scheduled?.message ?? 'the scheduler has said nothing'}`,
      );
      this.#advise(`see what keeps the scheduler from placing pod ${pod.name}`);
    }
    return true;
  }

  /** The DiskImage of a claim that is not bound. */
  async #imageOf(claim: Claim): Promise<DiskImage | undefined> {
    const { uid } = claim.metadata;
    const image = (await this.#images()).find(({ metadata }) => {
      const { [annotations.claim]: of, [annotations.csiName]: csiName } = metadata.annotations;
      return of === keyOf(claim.metadata) || (uid !== undefined && csiName === `pvc-${uid}`);
    });
    if (!image && this.isSettled) {
      this.#say('Lamina has no DiskImage for it: it was not asked yet, or refused; then the events say why.');
      this.#advise("look at the events, and at the controller's pod and its csi-provisioner");
    }
    return image;
  }

  async #explainImage({ metadata, spec, status }: DiskImage): Promise<void> {
    const where = spec.nodeName === undefined ? 'on no node yet' : `on node ${spec.nodeName}`;
    const state = metadata.deletionTimestamp ? 'is being deleted' : `is ${where}`;
    const progress = status.progress === undefined ? '' : `, ${status.progress} done`;
    this.#say(`DiskImage ${keyOf(metadata)} ${state}${progress}.`);
    if (findCondition(status.conditions, 'Ready') === undefined) {
      this.#say('  Nobody has said anything of it yet.');
      this.#advise("look at the controller's log, and at that of the node plugin");
    }
    this.#tellConditions(status.conditions);
    if (spec.nodeName === undefined) return;
    const name = diskPoolName(spec.pool, spec.nodeName);
    const pool = await new ResourceClient(this.#client, diskPools).get({ name });
    if (pool) return this.#explainPool(pool);
    this.#say(`There is no DiskPool ${name}: the node plugin of that node has no pool '${spec.pool}', or never ran.`);
    this.#advise(`see whether the node plugin runs on ${spec.nodeName}`);
  }

  #explainPool({ metadata, status: { conditions, space } }: DiskPool): void {
    const room = space ? `, ${formatBytes(space.free)} of ${formatBytes(space.total)} free` : '';
    const ready = findCondition(conditions, 'Ready');
    this.#say(`DiskPool ${metadata.name} is ${ready?.status === 'True' ? 'served' : 'not served'}${room}.`);
    // What is without an object concerns this claim no more than others.
    this.#tellConditions(conditions.filter(({ type }) => type !== 'Claimed'));
  }

  async #explainPod(pod: Pod): Promise<void> {
    const { metadata, status } = pod;
    this.#say(`Pod ${metadata.name} uses it and is ${status?.phase ?? 'Pending'}.`);
    if (status?.phase === 'Pending') await this.#tellEvents(pod);
  }

  /** Says what is not as it should be. */
  #tellConditions(conditions: readonly Condition[]): void {
    for (const { type, status, reason, message } of conditions) {
      if (status === 'True') continue;
      this.#say(`  ${type} is ${status} (${reason}): ${message}`);
      const code = failureCode(reason);
      this.#advise(advice[reason] ?? (code ? `see ${code} in docs/users/errors.md` : `wait while it is ${reason}`));
    }
  }

  /** The last warnings about an object; what is repeated is told once. */
  async #tellEvents({ metadata }: Claim | Pod): Promise<void> {
    const { namespace, name, uid } = metadata;
    const fieldSelector = uid ? `involvedObject.uid=${uid}` : `involvedObject.name=${name}`;
    const all = await new ResourceClient(this.#client, events).list({ namespace, fieldSelector });
    const warnings = all.filter(({ type }) => type === 'Warning').sort((a, b) => (timeOf(a) < timeOf(b) ? 1 : -1));
    for (const event of warnings.slice(0, maxEvents)) {
      const times = event.series?.count ?? event.count ?? 1;
      const age = formatAge(timeOf(event), this.#now);
      this.#say(`  ${age} ago${times > 1 ? `, ${times} times` : ''}: ${event.reason}: ${event.message?.trim()}`);
    }
    if (warnings.length > 0) this.#advise(`see to what the last event of ${name} says`);
  }

  async #podsOf({ metadata }: Claim): Promise<Pod[]> {
    const all = await new ResourceClient(this.#client, pods).list({ namespace: metadata.namespace });
    return all.filter((pod) =>
      pod.spec.volumes?.some(({ name, persistentVolumeClaim, ephemeral }) =>
        // A generic ephemeral volume has a claim that is named after the pod and itself.
        ephemeral
          ? metadata.name === `${pod.metadata.name}-${name}`
          : persistentVolumeClaim?.claimName === metadata.name,
      ),
    );
  }

  async #images(): Promise<DiskImage[]> {
    return new ResourceClient(this.#client, diskImages).list();
  }

  #say(line: string): void {
    this.#said.push(line);
  }

  #advise(what: string): void {
    this.#toDo.add(what);
  }
}

function timeOf({ series, lastTimestamp, eventTime, metadata }: CoreEvent): string {
  return series?.lastObservedTime ?? lastTimestamp ?? eventTime ?? metadata.creationTimestamp ?? '';
}
