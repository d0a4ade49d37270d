import { type DiskImage, diskImages, diskPools, type DiskSnapshot, diskSnapshots } from '../src/api/objects.ts';
import { DiskAttachments } from '../src/engine/disks/disk-attachments.ts';
import { Staging } from '../src/engine/staging/staging.ts';
import { ApiClient } from '../src/kube/client/client.ts';
import { configMapType, secretType, volumeSnapshotContentType } from '../src/kube/kinds/core-kinds.ts';
import type { EventNote } from '../src/kube/events/events.ts';
import { MutableObjectCache } from '../src/kube/cache/object-cache.ts';
import type { KubeObject } from '../src/kube/objects.ts';
import { decodeObject, type ResourceType } from '../src/kube/client/resource-type.ts';
import { ResourceClient } from '../src/kube/client/resource-client.ts';
import { volumeSnapshotType } from '../src/kube/kinds/storage-kinds.ts';
import { ImageImports } from '../src/reconcile/node/image-imports.ts';
import { ImageUploads } from '../src/reconcile/node/image-uploads.ts';
import type { NodeContext } from '../src/reconcile/node/node-context.ts';
import { LayerFetches } from '../src/reconcile/node/layer-fetches.ts';
import { NodeDiskImages } from '../src/reconcile/node/node-disk-image.ts';
import { NodeDiskSnapshots } from '../src/reconcile/node/node-disk-snapshot.ts';
import { NodePools, type PoolState, type ServedPool } from '../src/reconcile/node/node-pools.ts';
import type { SpacePolicy } from '../src/store/space.ts';
import { ImportGate } from '../src/transfer/import/import-gate.ts';
import { systemClock } from '../src/lib/clock.ts';
import { TokenBucket } from '../src/lib/token-bucket.ts';
import { type DetachedPool, openDetachedPool } from './detached-pool.ts';
import type { FakeObject, FakeType } from './fakes/api-objects.ts';
import type { Json } from './fakes/api-patch.ts';
import { FakeApiServer } from './fakes/api-server.ts';
import { ManualClock } from './fakes/manual-clock.ts';
import { noPause } from './fakes/no-pause.ts';
import { silentLogger } from './fakes/silent-logger.ts';

const nodeSceneTypes = [
  diskImages,
  diskSnapshots,
  diskPools,
  secretType,
  configMapType,
  volumeSnapshotType,
  volumeSnapshotContentType,
];
export const systemNamespace = 'lamina-system';
export const nodeName = 'worker-1';

const importContext = {
  limit: new TokenBucket(Number.POSITIVE_INFINITY, systemClock),
  gate: new ImportGate(2),
  clock: systemClock,
  checkpoint: () => {},
  // Nothing comes for a second where the machine is busy with something else.
  stallMs: 30_000,
  mayReachItself: true,
};

type Begin = ConstructorParameters<typeof ImageImports>[0]['begin'];
const newImports = (begin: Begin) => new ImageImports({ ...importContext, onEnded: () => {}, random: () => 0, begin });
const newUploads = () => new ImageUploads({ ...importContext, isEnabled: true, onChange: () => {} });

/** The reconcilers of a node over a real pool with nothing attached, and a fake API server; the caches follow when asked. */
export class NodeScene {
  readonly server = new FakeApiServer({ types: nodeSceneTypes });
  readonly clock = new ManualClock();
  readonly events: EventNote[] = [];
  readonly images = new MutableObjectCache<DiskImage>();
  readonly snapshots = new MutableObjectCache<DiskSnapshot>();
  /** What metrics are told of imports. */
  readonly moved: (number | string)[] = [];
  imports = newImports((kind) => {
    this.moved.push(kind);
    return { addBytes: (bytes) => this.moved.push(bytes), end: (result) => this.moved.push(result) };
  });
  uploads = newUploads();
  /** The step at which the process is to die, as an exception nobody expects. */
  dieAt = '';
  state: PoolState | undefined;
  detached!: DetachedPool;
  context!: NodeContext;
  #client!: ApiClient;

  static async start(directory: string, policy: Partial<SpacePolicy> = {}): Promise<NodeScene> {
    const scene = new NodeScene();
    await scene.server.start();
    scene.#client = new ApiClient({ connection: scene.server.connection, clock: scene.clock, userAgent: 'test' });
    await scene.#assemble(directory, policy);
    return scene;
  }

  async #assemble(directory: string, policy: Partial<SpacePolicy>): Promise<void> {
    this.detached = await openDetachedPool(directory, policy);
    const { context, disks, images, release } = this.detached;
    const attachments = new DiskAttachments(context, () => {});
    const checkpoint = () => {};
    const staged = { disks: attachments, nodeName, runDir: directory, checkpoint, logger: silentLogger };
    const staging = new Staging({ ...staged, pauses: noPause });
    const dataPath = {
      backend: 'fuse',
      exportDirectIo: true,
      rawDirectIo: true,
      imageDirectIo: true,
      proven: true,
    } as const;
    const pool: ServedPool = {
      context,
      disks,
      images,
      attachments,
      staging,
      pauses: noPause,
      dataPath,
      onNamesGone: () => {},
      close: release,
    };
    this.state = { kind: 'serving', pool };
    this.context = {
      nodeName,
      systemNamespace,
      pools: this.#pools(),
      images: this.images,
      snapshots: this.snapshots,
      imageClient: new ResourceClient(this.#client, diskImages),
      snapshotClient: new ResourceClient(this.#client, diskSnapshots),
      imports: this.imports,
      uploads: this.uploads,
      fetches: new LayerFetches({
        pools: new ResourceClient(this.#client, diskPools),
        receiverOf: () => {
          throw new Error('nothing is fetched in this test');
        },
        onEnded: () => {},
        clock: this.clock,
        random: () => 0,
      }),
      importSecrets: {
        secrets: new ResourceClient(this.#client, secretType),
        configMaps: new ResourceClient(this.#client, configMapType),
      },
      events: { record: (_, note) => this.events.push(note) },
      clock: this.clock,
      checkpoint: (step) => {
        if (step === this.dieAt) throw new Error(`killed after ${step}`);
      },
    };
  }

  /** One pool, `default`, whose state the test sets. */
  #pools(): NodePools {
    const places = [{ name: 'default', directory: this.detached.directory }];
    const never = async (): Promise<never> => {
      throw new Error('not opened in this test');
    };
    const options = {
      places,
      open: never,
      confirm: never,
      onChange: () => {},
      clock: this.clock,
      logger: silentLogger,
    };
    const pools = new NodePools(options);
    pools.state = (name) => (name === 'default' ? this.state : undefined);
    const pool = () => (this.state && 'pool' in this.state ? [this.state.pool] : []);
    Object.defineProperty(pools, 'opened', { get: pool });
    Object.defineProperty(pools, 'served', { get: () => (this.state?.kind === 'serving' ? pool() : []) });
    Object.defineProperty(pools, 'areAllServed', { get: () => this.state?.kind === 'serving' });
    pools.findDisk = (id) => pool().find(({ context }) => [...context.pool.disks.keys()].some((key) => key === id));
    return pools;
  }

  /** A client of the fake API server, for another kind. */
  clientOf<T extends KubeObject>(type: ResourceType<T>): ResourceClient<T> {
    return new ResourceClient(this.#client, type);
  }

  declareImage(name: string, spec: object = {}, metadata: object = {}, namespace = 'media'): FakeObject {
    return this.declare(diskImages, namespace, {
      apiVersion: 'lamina.storage/v1alpha1',
      kind: 'DiskImage',
      metadata: { name, ...metadata },
      spec: { size: '64Mi', nodeName, ...spec },
    });
  }

  declareSnapshot(name: string, diskImageName: string, namespace = 'media'): FakeObject {
    return this.declare(diskSnapshots, namespace, {
      apiVersion: 'lamina.storage/v1alpha1',
      kind: 'DiskSnapshot',
      metadata: { name },
      spec: { diskImageName, nodeName },
    });
  }

  declare(type: FakeType, namespace: string, object: object): FakeObject {
    return this.server.objects.create({ type, namespace }, object as never);
  }

  /** As the controller does. */
  report(name: string, status: Json, namespace = 'media'): void {
    this.server.objects.mergePatch({ type: diskImages, namespace, name, subresource: 'status' }, { status });
  }

  /** As kubectl does: what has finalizers stays until these are gone. */
  deleteImage(name: string, namespace = 'media'): void {
    this.server.objects.remove({ type: diskImages, namespace, name, subresource: '' });
  }

  /** The DiskImage as the API server has it; undefined where it is gone. */
  async image(name: string, namespace = 'media'): Promise<DiskImage | undefined> {
    return this.context.imageClient.get({ namespace, name });
  }

  async snapshot(name: string, namespace = 'media'): Promise<DiskSnapshot | undefined> {
    return this.context.snapshotClient.get({ namespace, name });
  }

  /** Brings the cache up to date, and reconciles the DiskImage once. */
  async reconcileImage(name: string, namespace = 'media') {
    const key = `${namespace}/${name}`;
    const image = await this.image(name, namespace);
    if (image)
      this.images.put({ object: decodeObject(diskImages, image && (await this.#raw('diskimages', namespace, name))) });
    else this.images.remove(key);
    return new NodeDiskImages(this.context).reconcile(key, AbortSignal.timeout(60_000));
  }

  async reconcileSnapshot(name: string, namespace = 'media') {
    const key = `${namespace}/${name}`;
    const snapshot = await this.snapshot(name, namespace);
    if (snapshot)
      this.snapshots.put({ object: decodeObject(diskSnapshots, await this.#raw('disksnapshots', namespace, name)) });
    else this.snapshots.remove(key);
    return new NodeDiskSnapshots(this.context).reconcile(key);
  }

  async #raw(plural: string, namespace: string, name: string): Promise<unknown> {
    return this.#client.request({
      method: 'GET',
      path: `/apis/lamina.storage/v1alpha1/namespaces/${namespace}/${plural}/${name}`,
    });
  }

  /** The node plugin starts again: it knows nothing but what is in the pool and in the cluster. */
  async restart(): Promise<void> {
    await this.uploads.stop();
    await this.imports.stop();
    this.imports = newImports(() => ({ addBytes: () => {}, end: () => {} }));
    this.uploads = newUploads();
    this.context = { ...this.context, imports: this.imports, uploads: this.uploads };
  }

  /** How many requests changed something, and forget them. */
  takeWrites(): number {
    const writes = this.server.requests.filter(({ method }) => method !== 'GET').length;
    this.server.requests.length = 0;
    return writes;
  }

  async stop(): Promise<void> {
    await this.uploads.stop();
    await this.imports.stop();
    this.#client.close();
    await this.server.stop();
    await this.detached.release();
  }
}
