import { finalizers } from '../../src/api/names.ts';
import { diskImages, diskPools, diskSnapshots } from '../../src/api/objects.ts';
import { nodeType } from '../../src/kube/kinds/core-kinds.ts';
import { parseQuantity } from '../../src/lib/quantity.ts';
import type { FakeChange, FakeObject, FakeType } from './api-objects.ts';
import type { FakeApiServer } from './api-server.ts';
import type { Json } from './api-patch.ts';

/** What a node plugin is about to do with an object. */
export type NodeTask = 'make' | 'grow' | 'delete' | 'take' | 'remove';

/** What comes of it. */
export type NodeReply = 'done' | 'nothing' | { reason: string; message: string; progress?: string };

export interface FakeNodeOptions {
  name: string;
  pool?: string;
  thin?: string;
  thick?: string;
}

/**
 * A node as the controller sees it: a Node, a DiskPool, and a plugin that makes the DiskImages and DiskSnapshots of the
 * node, each as soon as the API server has it.
 */
export class FakeClusterNode {
  readonly name: string;
  /** Tests have a task done, ignored or failed by it. */
  reply: (task: NodeTask, name: string) => NodeReply = () => 'done';
  readonly #server: FakeApiServer;
  readonly #pool: string;

  constructor(server: FakeApiServer, { name, pool = 'default', thin = '100Gi', thick = '50Gi' }: FakeNodeOptions) {
    this.name = name;
    this.#server = server;
    this.#pool = pool;
    server.objects.create(
      { type: nodeType, namespace: '' },
      { metadata: { name }, status: { conditions: [{ type: 'Ready', status: 'True' }] } },
    );
    this.setNodeReady('True');
    const metadata = { name: `${pool}.${name}` };
    server.objects.create(
      { type: diskPools, namespace: '' },
      manifest(diskPools, metadata, { poolName: pool, nodeName: name }),
    );
    this.reportPool({ space: spaceOf(thin, thick), conditions: [condition('Ready', 'True', 'Serving', 1)] });
    server.onChange.add(this.#onChange);
  }

  setNodeReady(status: 'True' | 'Unknown'): void {
    this.#patch(nodeType, { name: this.name }, { status: { conditions: [{ type: 'Ready', status }] } }, 'status');
  }

  setSpace(thin: string, thick: string): void {
    this.reportPool({ space: spaceOf(thin, thick) });
  }

  reportPool(status: Json): void {
    this.#patch(diskPools, { name: `${this.#pool}.${this.name}` }, { status }, 'status');
  }

  /** The plugin does nothing from now on. */
  silence(): void {
    this.#server.onChange.delete(this.#onChange);
  }

  /** The plugin has started again, and looks at everything. */
  wake(): void {
    this.#server.onChange.add(this.#onChange);
    for (const type of [diskImages, diskSnapshots])
      for (const object of this.#server.objects.list(type)) this.#reconcile(type, object);
  }

  /** The Node object goes, and the plugin with it. */
  vanish(): void {
    this.silence();
    this.#server.objects.remove({ type: nodeType, namespace: '', name: this.name, subresource: '' });
  }

  readonly #onChange = ({ type, collection, object }: FakeChange): void => {
    if (type === 'DELETED') return;
    for (const kind of [diskImages, diskSnapshots]) {
      if (!collection.endsWith(`/${kind.plural}`)) continue;
      // Not before those who listen have been told of this change.
      setImmediate(() => this.#server.onChange.has(this.#onChange) && this.#reconcile(kind, object));
    }
  };

  #reconcile(type: FakeType, { metadata: { namespace = '', name } }: FakeObject): void {
    const object = this.#server.objects.list(type, namespace).find(({ metadata }) => metadata.name === name);
    if ((object?.['spec'] as Json | undefined)?.['nodeName'] !== this.name || !object) return;
    if (object.metadata.deletionTimestamp) this.#release(type, object);
    else if (type === diskImages) this.#serveImage(object);
    else this.#serveSnapshot(object);
  }

  #release(type: FakeType, object: FakeObject): void {
    const { metadata } = object;
    const [task, finalizer] =
      type === diskImages ? (['delete', finalizers.disk] as const) : (['remove', finalizers.snapshot] as const);
    if (!metadata.finalizers?.includes(finalizer)) return;
    const reply = this.reply(task, metadata.name);
    if (reply === 'done') {
      const others = metadata.finalizers.filter((other) => other !== finalizer);
      this.#patch(type, metadata, { metadata: { finalizers: others } });
    } else if (reply !== 'nothing') this.#fail(type, object, 'Ready', reply);
  }

  #serveImage(object: FakeObject): void {
    const { metadata } = object;
    const spec = object['spec'] as { size?: string };
    const { diskId, virtualSize, observedGeneration } = (object['status'] ?? {}) as {
      diskId?: string;
      virtualSize?: string;
      observedGeneration?: number;
    };
    const isMade = diskId !== undefined;
    const isBigEnough = isMade && bytes(virtualSize) >= bytes(spec.size);
    if (isBigEnough && observedGeneration === metadata.generation) return;
    const task = isMade ? 'grow' : 'make';
    const reply = isBigEnough ? 'done' : this.reply(task, metadata.name);
    if (reply === 'nothing') return;
    if (reply !== 'done') return this.#fail(diskImages, object, isMade ? 'Sized' : 'Ready', reply);
    const others = conditionsOf(object).filter(({ type }) => !['Ready', 'Sized'].includes(type));
    const status = {
      diskId: metadata.name,
      nodeName: this.name,
      virtualSize: isBigEnough ? virtualSize : (spec.size ?? '1Gi'),
      observedGeneration: metadata.generation,
      conditions: [
        condition('Ready', 'True', 'Made', metadata.generation),
        condition('Sized', 'True', 'AsWanted', metadata.generation),
        ...others,
      ],
    };
    this.#patch(diskImages, metadata, { status }, 'status');
  }

  #serveSnapshot(object: FakeObject): void {
    const { metadata } = object;
    if ((object['status'] as Json | undefined)?.['snapshotId'] !== undefined) return;
    const reply = this.reply('take', metadata.name);
    if (reply === 'nothing') return;
    if (reply !== 'done') return this.#fail(diskSnapshots, object, 'Ready', reply);
    const { diskImageName } = object['spec'] as { diskImageName: string };
    const image = this.#server.objects
      .list(diskImages, metadata.namespace)
      .find(({ metadata: { name } }) => name === diskImageName);
    const status = {
      snapshotId: metadata.name,
      nodeName: this.name,
      creationTime: '2026-01-01T00:00:00Z',
      restoreSize: (image?.['status'] as Json | undefined)?.['virtualSize'] ?? '1Gi',
      observedGeneration: metadata.generation,
      conditions: [condition('Ready', 'True', 'Taken', metadata.generation)],
    };
    this.#patch(diskSnapshots, metadata, { status }, 'status');
  }

  #fail(type: FakeType, object: FakeObject, about: string, reply: Exclude<NodeReply, string>): void {
    const { metadata } = object;
    const { reason, message, progress } = reply;
    const conditions = conditionsOf(object);
    const known = conditions.find((one) => one.type === about);
    if (known?.reason === reason && known.observedGeneration === metadata.generation) return;
    const others = conditions.filter((one) => one.type !== about);
    const failed = { ...condition(about, 'False', reason, metadata.generation), message };
    const report = {
      observedGeneration: metadata.generation,
      conditions: [...others, failed],
      ...(progress ? { progress } : {}),
    };
    this.#patch(type, metadata, { status: report }, 'status');
  }

  #patch(
    type: FakeType,
    { namespace = '', name }: { namespace?: string; name: string },
    patch: Json,
    subresource = '',
  ): void {
    this.#server.objects.mergePatch({ type, namespace, name, subresource }, patch);
  }
}

function conditionsOf(object: FakeObject): { type: string; reason: string; observedGeneration: number }[] {
  return (object['status'] as { conditions?: ReturnType<typeof conditionsOf> } | undefined)?.conditions ?? [];
}

export function manifest({ group, version, kind }: FakeType, metadata: Json, spec: Json): Json {
  return { apiVersion: group ? `${group}/${version}` : version, kind, metadata, spec };
}

export function condition(type: string, status: string, reason: string, observedGeneration: number) {
  const lastTransitionTime = '2026-01-01T00:00:00Z';
  return { type, status, reason, message: `It is ${reason}.`, lastTransitionTime, observedGeneration };
}

function spaceOf(availableThin: string, availableThick: string): Json {
  const nothing = {
    total: '1Ti',
    free: '1Ti',
    reserved: '0',
    criticalMark: '0',
    overcommit: '2',
    provisioned: '0',
    allocated: '0',
  };
  return { ...nothing, availableThin, availableThick };
}

function bytes(quantity: string | undefined): number {
  return parseQuantity(quantity ?? '0') ?? 0;
}
