import { annotations, diskPoolName } from '../../api/names.ts';
import type { DiskPool } from '../../api/objects.ts';
import type { KubeClient } from '../../kube/client/client.ts';
import { namespaceType } from '../../kube/kinds/core-kinds.ts';
import type { Reflector } from '../../kube/cache/reflector.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { Backoff } from '../../lib/backoff.ts';
import { type Clock, pause } from '../../lib/clock.ts';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { claimForCluster } from '../../store/cluster-claim.ts';
import type { PoolPlace, ServedPool } from './node-pools.ts';

/** There from the first moment of a cluster to its last, so that its uid is the cluster's identity. */
const identifyingNamespace = 'kube-system';

export interface PoolConfirmerOptions {
  nodeName: string;
  client: KubeClient;
  pools: Reflector<DiskPool>;
  clock: Clock;
  random: () => number;
  logger: Logger;
}

/** Lets the objects of this cluster decide over a pool only if it is this cluster's pool. */
export class PoolConfirmer {
  readonly #options: PoolConfirmerOptions;

  constructor(options: PoolConfirmerOptions) {
    this.#options = options;
  }

  /**
   * Asks the cluster whether the node had the pool before, since an empty directory may be the mount point of a disk that
   * is not mounted: a new pool in it would take the old one's place, and its disks for lost. Waits for the API server.
   *
   * @throws LaminaError `pool-missing` where it had, `resource-invalid` where that cannot be told; the signal's reason
   */
  readonly assertNew = async ({ name, directory }: PoolPlace, signal: AbortSignal): Promise<void> => {
    const { pools, nodeName } = this.#options;
    await pools.whenSynced(signal);
    signal.throwIfAborted();
    const objectName = diskPoolName(name, nodeName);
    const poolId = pools.cache.get(objectName)?.status.poolId;
    if (poolId === undefined) return;
    throw new LaminaError(
      'pool-missing',
      `${directory} is empty, though this node had the pool ${poolId} there: mount what holds it. If that is lost for good, have a new pool made: kubectl delete diskpool ${objectName}`,
    );
  };

  /**
   * Waits for the API server, and claims the pool for its cluster.
   *
   * @throws LaminaError `pool-replaced` where the node had another one there, `pool-foreign` where it is another cluster's,
   *   unless somebody wants it taken over; the signal's reason
   */
  async confirm({ name }: PoolPlace, { context: { pool } }: ServedPool, signal: AbortSignal): Promise<void> {
    const { pools, nodeName } = this.#options;
    const cluster = await this.#clusterId(signal);
    await pools.whenSynced(signal);
    signal.throwIfAborted();
    const objectName = diskPoolName(name, nodeName);
    const known = pools.cache.get(objectName);
    const takeOver = known?.metadata.annotations[annotations.takeOver] === pool.id;
    const command = `kubectl annotate --overwrite diskpool ${objectName} ${annotations.takeOver}=${pool.id}`;
    const poolId = known?.status.poolId;
    if (poolId !== undefined && poolId !== pool.id && !takeOver) {
      const what = `${pool.layout.root} holds the pool ${pool.id}, though this node had the pool ${poolId} there`;
      const hint = `If that one is lost for good, and its disks with it, have this one served: ${command}`;
      throw new LaminaError('pool-replaced', `${what}: mount what holds it. ${hint}`);
    }
    try {
      await claimForCluster(pool, cluster, takeOver);
    } catch (error) {
      if (!isLaminaError(error, 'pool-foreign')) throw error;
      const hint = `If that cluster is gone, let this one have it: ${command}`;
      throw new LaminaError('pool-foreign', `${error.message}. ${hint}`, { cause: error });
    }
  }

  async #clusterId(signal: AbortSignal): Promise<string> {
    const { client, clock, random, logger } = this.#options;
    const namespaces = new ResourceClient(client, namespaceType);
    const backoff = new Backoff({ baseMs: 500, maxMs: 15_000, jitter: 0.5, random });
    for (;;) {
      try {
        const uid = (await namespaces.get({ name: identifyingNamespace }, { signal }))?.metadata.uid;
        if (uid !== undefined) return uid;
      } catch (error) {
        signal.throwIfAborted();
        if (backoff.failures === 0) logger.warn({ error }, 'the cluster cannot be identified; trying again');
      }
      await pause(clock, backoff.next(), signal);
      signal.throwIfAborted();
    }
  }
}
