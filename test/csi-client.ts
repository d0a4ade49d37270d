import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { Client, credentials, type MethodDefinition } from '@grpc/grpc-js';
import {
  ControllerService,
  IdentityService,
  NodeService,
  type VolumeCapability,
  VolumeCapability_AccessMode_Mode as AccessMode,
  type VolumeContentSource,
} from '../src/gen/csi.ts';

/** A service of the stubs as functions: fields that are left out have their default value. Failures are grpc-js ServiceErrors. */
type Calls<Methods> = {
  readonly [Name in keyof Methods]: Methods[Name] extends {
    requestDeserialize: (bytes: Buffer) => infer Request;
    responseDeserialize: (bytes: Buffer) => infer Response;
  }
    ? (request?: Partial<Request>, options?: CallOptions) => Promise<Response>
    : never;
};

export interface CallOptions {
  /** Default: two minutes. */
  timeoutMs?: number;
}

/** How a volume is used; a mount of ext4 by one node where nothing is said. */
export type Access = { kind: 'block' } | { kind: 'mount'; fsType?: string; mountFlags?: string[] };
export type { AccessMode };

export interface CreateOptions {
  name: string;
  sizeBytes: number;
  /** StorageClass parameters. */
  parameters?: Record<string, string>;
  source?: { snapshotId: string } | { volumeId: string };
  access?: Access;
}

/** What later calls need to know of a volume. */
export interface CreatedVolume {
  id: string;
  sizeBytes: number;
  access: Access;
  context: Record<string, string>;
}

export interface CreatedSnapshot {
  id: string;
  sizeBytes: number;
  createdAt: Date;
  ready: boolean;
}

/** Where one volume is staged and published. */
export interface VolumePaths {
  staging: string;
  target: string;
}

export interface PublishOptions {
  readOnly?: boolean;
  mode?: AccessMode;
}

/** Calls a CSI driver as an orchestrator does: every RPC below `identity`, `controller` and `node`, the usual sequences as methods. */
export class CsiClient {
  readonly identity: Calls<typeof IdentityService>;
  readonly controller: Calls<typeof ControllerService>;
  readonly node: Calls<typeof NodeService>;
  readonly #client: Client;

  constructor(socketPath: string) {
    const authority = { 'grpc.default_authority': 'localhost' };
    // A driver that is started again must be found at once, not after a minute of backoff.
    const reconnect = { 'grpc.initial_reconnect_backoff_ms': 20, 'grpc.max_reconnect_backoff_ms': 100 };
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), { ...authority, ...reconnect });
    this.identity = callsOf(this.#client, IdentityService);
    this.controller = callsOf(this.#client, ControllerService);
    this.node = callsOf(this.#client, NodeService);
  }

  close(): void {
    this.#client.close();
  }

  /** Whether the driver answers Probe with ready; false also where nobody listens. */
  async isReady(): Promise<boolean> {
    const reply = await this.identity.probe({}, { timeoutMs: 2000 }).catch(() => ({ ready: false }));
    return reply.ready ?? true;
  }

  async createVolume({
    name,
    sizeBytes,
    parameters = {},
    source,
    access = { kind: 'mount' },
  }: CreateOptions): Promise<CreatedVolume> {
    const { volume } = await this.controller.createVolume({
      name,
      capacityRange: { requiredBytes: BigInt(sizeBytes), limitBytes: 0n },
      volumeCapabilities: [capability(access)],
      parameters,
      volumeContentSource: source && contentSource(source),
    });
    if (!volume) throw new Error(`CreateVolume ${name}: the reply has no volume`);
    return { id: volume.volumeId, sizeBytes: Number(volume.capacityBytes), access, context: volume.volumeContext };
  }

  async deleteVolume(volumeId: string): Promise<void> {
    await this.controller.deleteVolume({ volumeId });
  }

  async createSnapshot(sourceVolumeId: string, name: string): Promise<CreatedSnapshot> {
    const { snapshot } = await this.controller.createSnapshot({ sourceVolumeId, name });
    if (!snapshot?.creationTime) throw new Error(`CreateSnapshot ${name}: the reply has no snapshot or no time`);
    return {
      id: snapshot.snapshotId,
      sizeBytes: Number(snapshot.sizeBytes),
      createdAt: snapshot.creationTime,
      ready: snapshot.readyToUse,
    };
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    await this.controller.deleteSnapshot({ snapshotId });
  }

  /** Makes the staging directory, as an orchestrator has to. */
  async stage(volume: CreatedVolume, stagingTargetPath: string, mode?: AccessMode): Promise<void> {
    await mkdir(stagingTargetPath, { recursive: true });
    const volumeCapability = capability(volume.access, mode);
    await this.node.nodeStageVolume({
      volumeId: volume.id,
      stagingTargetPath,
      volumeCapability,
      volumeContext: volume.context,
    });
  }

  async unstage(volumeId: string, stagingTargetPath: string): Promise<void> {
    await this.node.nodeUnstageVolume({ volumeId, stagingTargetPath });
  }

  /** Makes the parent of the target, as an orchestrator has to; the target itself is the driver's. */
  async publish(
    volume: CreatedVolume,
    { staging, target }: VolumePaths,
    { readOnly = false, mode }: PublishOptions = {},
  ): Promise<void> {
    await mkdir(path.dirname(target), { recursive: true });
    await this.node.nodePublishVolume({
      volumeId: volume.id,
      stagingTargetPath: staging,
      targetPath: target,
      volumeCapability: capability(volume.access, mode),
      volumeContext: volume.context,
      readonly: readOnly,
    });
  }

  async unpublish(volumeId: string, targetPath: string): Promise<void> {
    await this.node.nodeUnpublishVolume({ volumeId, targetPath });
  }

  /** Stages and publishes below `directory`. @returns the target path: a directory, or the block device file */
  async attach(volume: CreatedVolume, directory: string, options: PublishOptions = {}): Promise<string> {
    const paths = pathsBelow(directory, volume.id);
    await this.stage(volume, paths.staging, options.mode);
    await this.publish(volume, paths, options);
    return paths.target;
  }

  /** Undoes `attach`. Idempotent. */
  async detach(volumeId: string, directory: string): Promise<void> {
    const { staging, target } = pathsBelow(directory, volumeId);
    await this.unpublish(volumeId, target);
    await this.unstage(volumeId, staging);
  }

  /** Grows a volume and, where the driver asks for it, its device and file system at `volumePath`. @returns the new size in bytes */
  async expand(volume: CreatedVolume, sizeBytes: number, at: VolumePaths | null): Promise<number> {
    const capacityRange = { requiredBytes: BigInt(sizeBytes), limitBytes: 0n };
    const volumeCapability = capability(volume.access);
    const grown = await this.controller.controllerExpandVolume({
      volumeId: volume.id,
      capacityRange,
      volumeCapability,
    });
    if (at && grown.nodeExpansionRequired) {
      const paths = { volumePath: at.target, stagingTargetPath: at.staging };
      await this.node.nodeExpandVolume({ volumeId: volume.id, ...paths, capacityRange, volumeCapability });
    }
    return Number(grown.capacityBytes);
  }
}

/** Where `attach` puts a volume. */
export function pathsBelow(directory: string, volumeId: string): VolumePaths {
  const base = path.join(directory, volumeId);
  return { staging: path.join(base, 'staging'), target: path.join(base, 'target') };
}

export function capability(access: Access, mode: AccessMode = AccessMode.SINGLE_NODE_WRITER): VolumeCapability {
  const accessMode = { mode };
  if (access.kind === 'block') return { accessType: { $case: 'block', value: {} }, accessMode };
  const { fsType = '', mountFlags = [] } = access;
  return { accessType: { $case: 'mount', value: { fsType, mountFlags, volumeMountGroup: '' } }, accessMode };
}

function contentSource(source: { snapshotId: string } | { volumeId: string }): VolumeContentSource {
  if ('snapshotId' in source) return { type: { $case: 'snapshot', value: source } };
  return { type: { $case: 'volume', value: source } };
}

type AnyMethod = MethodDefinition<object, unknown>;

function callsOf<Methods extends Record<keyof Methods, object>>(client: Client, methods: Methods): Calls<Methods> {
  const calls = Object.entries(methods).map(([name, method]) => [name, caller(client, method as AnyMethod)]);
  return Object.fromEntries(calls) as Calls<Methods>;
}

function caller(client: Client, method: AnyMethod) {
  const defaults = method.requestDeserialize(Buffer.alloc(0));
  return (request: object = {}, { timeoutMs = 120_000 }: CallOptions = {}): Promise<unknown> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        { ...defaults, ...request },
        { deadline: Date.now() + timeoutMs },
        (error, response) => (error ? reject(error) : resolve(response)),
      );
    });
}
