import { finalizers } from '../../api/names.ts';
import type { DiskImage, DiskPool } from '../../api/objects.ts';
import { hasFinalizer } from '../../kube/finalizers.ts';
import { isBeingDeleted, keyOf } from '../../kube/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { AwaitedImage } from '../../transfer/import/receive-upload.ts';
import type { UploadSink } from '../../transfer/users/take-upload.ts';
import type { UploadRequest } from '../../transfer/users/user-request.ts';
import type { Found } from '../../transfer/users/user-server.ts';
import { exportAddressOf } from './export-address.ts';
import { imageIdOfObject, recordNameOf } from '../identity.ts';
import type { NodeContext } from './node-context.ts';

/** What is to be uploaded for a DiskImage; undefined where nothing is. */
export function awaitedImageOf(image: DiskImage, systemNamespace: string): AwaitedImage | undefined {
  const { source } = image.spec;
  if (source.type !== 'upload') return undefined;
  const { uid: objectId } = image.metadata;
  const { checksum = null } = source.upload;
  return { name: recordNameOf(image, systemNamespace), source: { kind: 'upload', objectId, checksum } };
}

/** Finds what takes the file that somebody wants to upload. */
export class UploadSinks {
  readonly #context: NodeContext;
  readonly #diskPools: ResourceClient<DiskPool>;

  constructor(context: NodeContext, diskPools: ResourceClient<DiskPool>) {
    this.#context = context;
    this.#diskPools = diskPools;
  }

  /** @throws LaminaError `image-not-found`; `name-taken` where it has its content; `busy` where it cannot be taken now; `pool-unavailable` */
  readonly find = async ({ namespace, name }: UploadRequest, signal: AbortSignal): Promise<Found<UploadSink>> => {
    const { nodeName, systemNamespace, pools, imageClient, imports, uploads } = this.#context;
    const image = await imageClient.get({ namespace, name }, { signal });
    const what = `the DiskImage ${namespace}/${name}`;
    if (!image || isBeingDeleted(image))
      throw new LaminaError('image-not-found', `there is no DiskImage ${namespace}/${name}`);
    const awaited = awaitedImageOf(image, systemNamespace);
    if (!awaited) {
      const { type } = image.spec.source;
      throw new LaminaError('invalid-parameter', `${what} is not uploaded: it starts from source.type ${type}`);
    }
    const { nodeName: where, pool: poolName } = image.spec;
    if (where !== undefined && where !== nodeName) {
      return { elsewhere: await exportAddressOf(this.#diskPools, { nodeName: where, poolName }, signal) };
    }
    // What comes before is nobody's where the object is deleted.
    if (where === undefined || !hasFinalizer(image, finalizers.disk)) {
      throw new LaminaError('busy', `${what} does not wait for its file yet: see its conditions`);
    }
    const state = pools.state(poolName);
    if (state?.kind !== 'serving') throw new LaminaError('pool-unavailable', `the pool ${poolName} is not served now`);
    if (state.pool.context.pool.images.has(imageIdOfObject(image, systemNamespace))) {
      throw new LaminaError('name-taken', `${what} has its content already: declare another one`);
    }
    const key = keyOf(image.metadata);
    if (imports.has(key)) throw new LaminaError('busy', `${what} is being made of what was uploaded`);
    return { here: await uploads.sink(key, state.pool, awaited) };
  };
}
