import type { Checkpoint } from '../../lib/checkpoint.ts';
import type { Clock } from '../../lib/clock.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { TokenBucket } from '../../lib/token-bucket.ts';
import type { NodePools, ServedPool } from '../../reconcile/node/node-pools.ts';
import type { LayerId } from '../../store/records.ts';
import { parsePortAddress } from '../../telemetry/listen-address.ts';
import type { Credentials } from '../../transfer/identity/credentials.ts';
import { LayerReceiver, type LayerReceiverOptions } from '../../transfer/layers/layer-receiver.ts';
import { LayerServer, type LayerServerOptions } from '../../transfer/layers/layer-server.ts';
import type { TransferStep } from '../../transfer/layers/steps.ts';

export interface NodeTransfersOptions {
  /** Where others fetch layers, and what they are told; null for not at all. */
  listen: string | null;
  address: string | null;
  /** Bytes per second for all that is sent, and for all that is fetched. */
  rate: number;
  /** By which others know this node. @throws LaminaError `peer-unavailable` before there are any */
  credentials: () => Credentials;
  /** Called for each layer that begins to be sent or fetched. */
  begin: LayerServerOptions['begin'] & LayerReceiverOptions['begin'];
  pools: () => NodePools;
  /** Called when others can fetch layers from here, and are to be told. */
  onServing: () => void;
  checkpoint: Checkpoint<TransferStep>;
  clock: Clock;
  logger: Logger;
}

/** On a connection on which nothing moves for so long, another is made. */
const stallMs = 30_000;

/** Gives the sealed layers of this node's pools to other nodes, and brings theirs here. */
export class NodeTransfers {
  readonly #options: NodeTransfersOptions;
  readonly #receivers = new WeakMap<ServedPool, LayerReceiver>();
  readonly #incoming: TokenBucket;
  readonly #outgoing: TokenBucket;
  #server: LayerServer | undefined;

  constructor(options: NodeTransfersOptions) {
    const { rate, clock } = options;
    this.#options = options;
    this.#incoming = new TokenBucket(rate, clock);
    this.#outgoing = new TokenBucket(rate, clock);
  }

  get isEnabled(): boolean {
    return this.#options.listen !== null;
  }

  /** Where others fetch layers; null where they cannot, or not yet. */
  get address(): string | null {
    return this.#server ? this.#options.address : null;
  }

  /** @throws LaminaError `unsupported` where this node takes no part in transfers */
  readonly receiverOf = (pool: ServedPool): LayerReceiver => {
    if (!this.isEnabled) {
      throw new LaminaError(
        'unsupported',
        'this node fetches nothing from others: it was started without --transfer-listen',
      );
    }
    return this.#receiverOf(pool);
  };

  /** Gives layers from now on to those that know this node by these credentials. */
  async serve(credentials: Credentials): Promise<void> {
    const { listen, pools, logger, onServing, begin } = this.#options;
    if (listen === null) return;
    if (this.#server) return this.#server.replaceCredentials(credentials);
    const address = parsePortAddress(listen, `--transfer-listen ${listen}`);
    const server = new LayerServer({
      credentials,
      pool: (name) => {
        const state = pools().state(name);
        return state && 'pool' in state ? state.pool.context.pool : undefined;
      },
      limit: this.#outgoing,
      begin,
      onReleased: (store) => {
        for (const { context, onNamesGone } of pools().opened) if (context.pool === store) onNamesGone();
      },
      logger,
    });
    await server.listen(address.port, address.host);
    this.#server = server;
    onServing();
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  /** Removes what came of layers that nobody has gone on with since `before`, of a time with transfers, too. */
  async removeAbandoned(pool: ServedPool, before: Date): Promise<LayerId[]> {
    return this.#receiverOf(pool).removeAbandoned(before);
  }

  #receiverOf(pool: ServedPool): LayerReceiver {
    const { checkpoint, clock, logger, credentials, begin } = this.#options;
    const known = this.#receivers.get(pool);
    if (known) return known;
    const { pool: store, space } = pool.context;
    const common = { limit: this.#incoming, clock, checkpoint, credentials, logger, stallMs };
    const receiver = new LayerReceiver({ ...common, pool: store, space, begin });
    this.#receivers.set(pool, receiver);
    return receiver;
  }
}
