import { driverName } from '../../api/names.ts';
import type { DiskImage, DiskPool, DiskSnapshot } from '../../api/objects.ts';
import { findCondition } from '../../kube/conditions.ts';
import type { VolumeSnapshotContent } from '../../kube/kinds/core-kinds.ts';
import { type ObjectRef, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { VolumeSnapshot } from '../../kube/kinds/storage-kinds.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { ExportRequest } from '../../transfer/users/user-request.ts';
import type { ExportedContent, Found } from '../../transfer/users/user-server.ts';
import { assertOwnRecord, imageIdOfObject, isRecordOf, snapshotIdOfObject } from '../identity.ts';
import type { NodeContext } from './node-context.ts';
import { exportAddressOf } from './export-address.ts';

export interface ExportedContentsOptions {
  context: Pick<NodeContext, 'nodeName' | 'systemNamespace' | 'pools' | 'images' | 'imageClient' | 'snapshotClient'>;
  diskPools: ResourceClient<DiskPool>;
  /** Read by name for each request that needs them. */
  volumeSnapshots: ResourceClient<VolumeSnapshot>;
  contents: ResourceClient<VolumeSnapshotContent>;
}

/** Finds what people want to export, by the names that Kubernetes has for it. */
export class ExportedContents {
  readonly #options: ExportedContentsOptions;

  constructor(options: ExportedContentsOptions) {
    this.#options = options;
  }

  /** @throws LaminaError `image-not-found`, `snapshot-not-found`; `busy` before it is ready; `unsupported` for what may change; `pool-unavailable` */
  readonly find = async (
    { resource, namespace, name }: ExportRequest,
    signal: AbortSignal,
  ): Promise<Found<ExportedContent>> => {
    switch (resource) {
      case 'diskimages':
        return this.#image({ namespace, name }, signal);
      case 'disksnapshots':
        return this.#snapshot({ namespace, name }, signal);
      case 'volumesnapshots':
        return this.#snapshot(await this.#ofVolumeSnapshot({ namespace, name }, signal), signal);
    }
  };

  async #image(ref: ObjectRef, signal: AbortSignal): Promise<Found<ExportedContent>> {
    const { images, imageClient, nodeName, systemNamespace, pools } = this.#options.context;
    const image = images.get(keyOf(ref)) ?? (await imageClient.get(ref, { signal }));
    if (!image) throw new LaminaError('image-not-found', `there is no DiskImage ${keyOf(ref)}`);
    if (!image.spec.sealed) {
      throw new LaminaError(
        'unsupported',
        `the DiskImage ${keyOf(ref)} is not sealed, so that its content may change: take a snapshot of it, and export that`,
      );
    }
    const { nodeName: where, pool: poolName } = image.spec;
    if (where !== undefined && where !== nodeName) return this.#elsewhere(where, poolName, signal);
    const state = pools.state(poolName);
    if (where !== undefined && !(state && 'pool' in state)) throw notServed(poolName);
    const pool = state && 'pool' in state ? state.pool.context.pool : undefined;
    const id = imageIdOfObject(image, systemNamespace);
    const record = pool?.images.get(id);
    if (!pool || !record) throw notReady(image);
    assertOwnRecord(record, image, systemNamespace);
    return { here: { pool, kind: 'image', id } };
  }

  async #snapshot(ref: ObjectRef, signal: AbortSignal): Promise<Found<ExportedContent>> {
    const { snapshotClient, nodeName, systemNamespace, pools } = this.#options.context;
    const snapshot = await snapshotClient.get(ref, { signal });
    if (!snapshot) throw new LaminaError('snapshot-not-found', `there is no DiskSnapshot ${keyOf(ref)}`);
    const where = snapshot.spec.nodeName ?? snapshot.status.nodeName;
    const { pool: poolName, snapshotId } = snapshot.status;
    if (where === undefined || poolName === undefined || snapshotId === undefined) throw notReady(snapshot);
    if (where !== nodeName) return this.#elsewhere(where, poolName, signal);
    const state = pools.state(poolName);
    if (!state || !('pool' in state)) throw notServed(poolName);
    const { pool } = state.pool.context;
    const id = snapshotIdOfObject(snapshot, systemNamespace);
    const record = pool.snapshots.get(id);
    if (record?.state !== 'ready' || !isRecordOf(record, snapshot, systemNamespace)) throw notReady(snapshot);
    return { here: { pool, kind: 'snapshot', id } };
  }

  /** The DiskSnapshot behind a VolumeSnapshot; both name each other, as people can write the one and not the other. */
  async #ofVolumeSnapshot(ref: ObjectRef, signal: AbortSignal): Promise<ObjectRef> {
    const { volumeSnapshots, contents, context } = this.#options;
    const what = `VolumeSnapshot ${keyOf(ref)}`;
    const snapshot = await volumeSnapshots.get(ref, { signal });
    if (!snapshot) throw new LaminaError('snapshot-not-found', `there is no ${what}`);
    const { contentName, metadata } = snapshot;
    const content = contentName === undefined ? undefined : await contents.get({ name: contentName }, { signal });
    if (content?.snapshot.uid !== metadata.uid || content?.snapshotHandle === undefined) {
      throw new LaminaError('busy', `the ${what} is not taken yet`);
    }
    if (content.driver !== driverName) {
      throw new LaminaError('unsupported', `the ${what} is of the driver ${content.driver}, not of ${driverName}`);
    }
    const { snapshotHandle } = content;
    if (!snapshotHandle.includes('/')) return { namespace: context.systemNamespace, name: snapshotHandle };
    throw new LaminaError('unsupported', `the ${what} stands for ${snapshotHandle}: export that itself`);
  }

  async #elsewhere(nodeName: string, poolName: string, signal: AbortSignal): Promise<Found<never>> {
    return { elsewhere: await exportAddressOf(this.#options.diskPools, { nodeName, poolName }, signal) };
  }
}

function notReady({ kind, metadata, status }: DiskImage | DiskSnapshot): LaminaError {
  const { message = 'nobody has said anything of it yet' } = findCondition(status.conditions, 'Ready') ?? {};
  return new LaminaError('busy', `the ${kind} ${keyOf(metadata)} is not ready: ${message}`);
}

function notServed(poolName: string): LaminaError {
  return new LaminaError('pool-unavailable', `the pool ${poolName} of this node is not served now: see its DiskPool`);
}
