import { diskPoolName } from '../../api/names.ts';
import type { DiskPool } from '../../api/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import type { Clock } from '../../lib/clock.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { FetchedContent, FetchProgress, LayerReceiver } from '../../transfer/layers/layer-receiver.ts';
import type { Origin } from '../origin.ts';
import { BackgroundJobs, type JobState } from './background-jobs.ts';
import type { ServedPool } from './node-pools.ts';

export interface LayerFetchesOptions {
  pools: ResourceClient<DiskPool>;
  /** @throws LaminaError `unsupported`, `peer-unavailable` where this node cannot fetch anything, or not yet */
  receiverOf: (pool: ServedPool) => LayerReceiver;
  /** Called with the key of a DiskImage for which something was fetched, or was not. */
  onEnded: (key: string) => void;
  clock: Clock;
  random: () => number;
}

/** A node that was away is soon back, and a pod may wait for this. */
const longestDelayMs = 15_000;

/** What DiskImages of this node start from and other nodes have, on its way here. */
export class LayerFetches {
  readonly #options: LayerFetchesOptions;
  readonly #jobs: BackgroundJobs<FetchProgress>;

  constructor(options: LayerFetchesOptions) {
    this.#options = options;
    this.#jobs = new BackgroundJobs({ ...options, longestDelayMs });
  }

  /** Begins to fetch, and has `use` make a record of what has come. @throws nothing: a failure is told by `look` */
  start(key: string, pool: ServedPool, origin: Origin, use: (content: FetchedContent) => Promise<unknown>): void {
    this.#jobs.start(key, { receivedBytes: 0, totalBytes: 0 }, async (signal, onProgress) => {
      const { kind, id, nodeName, pool: poolName } = origin;
      if (kind === 'disk' || poolName === undefined) throw notMoved(origin);
      const address = await this.#addressOf(nodeName, poolName, signal);
      const request = { peer: { node: nodeName, address }, pool: poolName, kind, id, signal, onProgress };
      await this.#options.receiverOf(pool).fetch(request, use);
    });
  }

  look(key: string): JobState<FetchProgress> | undefined {
    return this.#jobs.look(key);
  }

  async abort(key: string): Promise<void> {
    await this.#jobs.abort(key);
  }

  /** What has come is gone on with at the next start. */
  async stop(): Promise<void> {
    await this.#jobs.stop();
  }

  async #addressOf(nodeName: string, poolName: string, signal: AbortSignal): Promise<string> {
    const pool = await this.#options.pools.get({ name: diskPoolName(poolName, nodeName) }, { signal });
    const address = pool?.status.transferAddress;
    if (address !== undefined) return address;
    throw new LaminaError(
      'peer-unavailable',
      `node ${nodeName}, which has the source, gives nothing to other nodes: its DiskPool ${diskPoolName(poolName, nodeName)} ${pool ? 'has no transferAddress' : 'is not there'}`,
    );
  }
}

function notMoved({ id, nodeName }: Origin): LaminaError {
  return new LaminaError(
    'unsupported',
    `the source ${id} is on node ${nodeName} and may change, so it is not moved: take a snapshot of it, and start from that`,
  );
}
