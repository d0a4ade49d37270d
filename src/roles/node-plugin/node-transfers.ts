import type { Checkpoint } from '../../lib/checkpoint.ts';
import { type Clock, pause } from '../../lib/clock.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { TokenBucket } from '../../lib/token-bucket.ts';
import type { NodePools, ServedPool } from '../../reconcile/node/node-pools.ts';
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
/** What came of layers that nobody has gone on with for so long is removed. */
const abandonedMs = 24 * 3_600_000;
const sweepMs = 3_600_000;

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
    const { listen, checkpoint, clock, logger, credentials, begin } = this.#options;
    if (listen === null) {
      throw new LaminaError(
        'unsupported',
        'this node fetches nothing from others: it was started without --transfer-listen',
      );
    }
    const known = this.#receivers.get(pool);
    if (known) return known;
    const { pool: store, space } = pool.context;
    const common = { limit: this.#incoming, clock, checkpoint, credentials, logger, stallMs };
    const receiver = new LayerReceiver({ ...common, pool: store, space, begin });
    this.#receivers.set(pool, receiver);
    return receiver;
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

  /** Removes what nobody goes on with, until `signal`. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { pools, clock, logger, listen } = this.#options;
    if (listen === null) return;
    while (!signal.aborted) {
      await pause(clock, sweepMs, signal);
      if (signal.aborted) return;
      for (const pool of pools().served) {
        const before = new Date(clock.now().getTime() - abandonedMs);
        const removed = await this.receiverOf(pool)
          .removeAbandoned(before)
          .catch((error: unknown) => {
            logger.warn({ error }, 'what came of layers that nobody wants could not be removed');
            return [];
          });
        if (removed.length > 0) logger.info({ removed }, 'removed what came of layers that nobody has gone on with');
      }
    }
  }
}
