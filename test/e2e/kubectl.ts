import { execa } from 'execa';
import { stringify } from 'yaml';
import { until } from '../cluster/until.ts';
import { snapshot } from './objects.ts';

/** An object as kubectl prints it in JSON. */
export interface KubernetesObject {
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    deletionTimestamp?: string;
  };
  // oxlint-disable-next-line typescript/no-explicit-any
  spec: any;
  // oxlint-disable-next-line typescript/no-explicit-any
  status?: any;
}

interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
}

/** A condition of an object that has such. */
export function conditionOf({ status }: KubernetesObject, type: string): Condition | undefined {
  return (status?.conditions as Condition[] | undefined)?.find((is) => is.type === type);
}

export function isReady(object: KubernetesObject): boolean {
  return conditionOf(object, 'Ready')?.status === 'True';
}

const commandTimeoutMs = 120_000;

/** kubectl in one namespace, as a user runs it. */
export class Kubectl {
  readonly kubeconfig: string;
  readonly namespace: string;

  constructor(kubeconfig: string, namespace: string) {
    this.kubeconfig = kubeconfig;
    this.namespace = namespace;
  }

  in(namespace: string): Kubectl {
    return new Kubectl(this.kubeconfig, namespace);
  }

  /** @returns what it prints. @throws with what it says of an error */
  async run(args: readonly string[], options: { input?: string; timeoutMs?: number } = {}): Promise<string> {
    const { input, timeoutMs = commandTimeoutMs } = options;
    const { stdout } = await execa('kubectl', ['--namespace', this.namespace, ...args], {
      env: { KUBECONFIG: this.kubeconfig },
      timeout: timeoutMs,
      ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
    });
    return stdout;
  }

  /** Declares objects, given as they are or as YAML. */
  async apply(...manifests: readonly (object | string)[]): Promise<void> {
    const input = manifests.map((each) => (typeof each === 'string' ? each : stringify(each))).join('\n---\n');
    await this.run(['apply', '-f', '-'], { input });
  }

  async get(kind: string, name: string): Promise<KubernetesObject | undefined> {
    const json = await this.run(['get', kind, name, '-o', 'json', '--ignore-not-found']);
    return json === '' ? undefined : (JSON.parse(json) as KubernetesObject);
  }

  /** @param args such as `--all-namespaces` */
  async list(kind: string, ...args: readonly string[]): Promise<KubernetesObject[]> {
    const json = await this.run(['get', kind, '-o', 'json', ...args]);
    return (JSON.parse(json) as { items: KubernetesObject[] }).items;
  }

  /** Waits until an object is as wanted. @throws with kubectl's description of it */
  async untilObject(
    kind: string,
    name: string,
    isRight: (object: KubernetesObject) => boolean,
    timeoutMs = 120_000,
  ): Promise<KubernetesObject> {
    return until(
      `${kind} ${name} is as wanted`,
      async () => {
        const object = await this.get(kind, name);
        return object && isRight(object) ? object : undefined;
      },
      { timeoutMs, more: () => this.run(['describe', kind, name]).catch(String) },
    );
  }

  /** Waits until an object says that in its condition Ready. @throws with kubectl's description of it */
  async untilSaid(kind: string, name: string, words: string): Promise<void> {
    await this.untilObject(kind, name, (object) => (conditionOf(object, 'Ready')?.message ?? '').includes(words));
  }

  /** Waits until a pod can be used. @throws with its description */
  async untilReady(pod: string, timeoutMs?: number): Promise<void> {
    await this.untilObject('pod', pod, isReady, timeoutMs);
  }

  /** Takes a VolumeSnapshot of a claim's volume, and waits until it is ready. */
  async snapshot(name: string, claimName: string): Promise<void> {
    await this.apply(snapshot(name, claimName));
    await this.untilObject('volumesnapshot', name, ({ status }) => status?.readyToUse === true);
  }

  /** The name of the PersistentVolume, and so of the DiskImage, of a claim. */
  async volumeOf(claimName: string): Promise<string> {
    const { spec } = await this.untilObject('pvc', claimName, ({ status }) => status?.phase === 'Bound');
    return spec.volumeName;
  }

  /** What a person sees of what happened to an object. */
  async eventsOf(name: string): Promise<string> {
    const events = await this.list('events', '--field-selector', `involvedObject.name=${name}`);
    return events.map((event) => JSON.stringify(event)).join('\n');
  }

  /** Deletes objects, and waits until they are gone. */
  async remove(kind: string, ...names: readonly string[]): Promise<void> {
    await this.run(['delete', kind, ...names, '--ignore-not-found', '--wait', '--timeout=240s'], {
      timeoutMs: 270_000,
    });
  }

  /** Runs a shell script in a pod. @returns what it prints */
  async inPod(pod: string, script: string, timeoutMs = commandTimeoutMs): Promise<string> {
    return this.run(['exec', '-i', pod, '--', 'bash', '-euo', 'pipefail', '-s'], { input: script, timeoutMs });
  }
}
