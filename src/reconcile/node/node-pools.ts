import { untilAborted } from '../../lib/abort.ts';
import { type Clock, pause } from '../../lib/clock.ts';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { ChosenDataPath } from '../../engine/attach/data-path.ts';
import type { DiskContext } from '../../engine/disks/disk-context.ts';
import type { DiskAttachments } from '../../engine/disks/disk-attachments.ts';
import type { Disks } from '../../engine/disks/disks.ts';
import type { Images } from '../../engine/disks/images.ts';
import type { Staging } from '../../engine/staging/staging.ts';

/** A pool that is served: recovered, tested, its disks found again. */
export interface ServedPool {
  context: DiskContext;
  disks: Disks;
  images: Images;
  attachments: DiskAttachments;
  staging: Staging;
  /** Of writes, while the pool is nearly full. */
  pauses: { readonly count: number };
  dataPath: ChosenDataPath;
  /** Has layers merged that may have lost their names. */
  onNamesGone: () => void;
  /** Ends what runs beside it and gives the pool's lock up. Attached disks stay attached. */
  close(): Promise<void>;
}

/**
 * A pool that is opened serves its volumes to kubelet; what the cluster's objects ask for is done in a serving one only. Where
 * it was refused before, it is as likely to be refused again: that is still what there is to say of it.
 */
export type PoolState =
  | { kind: 'starting' }
  | { kind: 'failed'; error: unknown }
  | { kind: 'opened'; pool: ServedPool; refused: unknown }
  | { kind: 'serving'; pool: ServedPool };

/** What a node is told to have as a pool. */
export interface PoolPlace {
  name: string;
  directory: string;
}

export interface NodePoolsOptions {
  places: readonly PoolPlace[];
  open: (place: PoolPlace, signal: AbortSignal) => Promise<ServedPool>;
  /** Resolves when the cluster may decide over the pool. @throws where it must not */
  confirm: (place: PoolPlace, pool: ServedPool, signal: AbortSignal) => Promise<void>;
  /** Called with the name of a pool whose state has changed. */
  onChange: (name: string) => void;
  clock: Clock;
  logger: Logger;
}

/** After which a pool that could not be served is tried again: whoever mounts a disk or starts the engine need not tell us. */
const retryMs = 5000;

/** The pools of this node. One that cannot be served says why, and keeps none of the others from being served. */
export class NodePools {
  readonly #options: NodePoolsOptions;
  readonly #states = new Map<string, PoolState>();

  constructor(options: NodePoolsOptions) {
    this.#options = options;
    for (const { name } of options.places) this.#states.set(name, { kind: 'starting' });
  }

  get places(): readonly PoolPlace[] {
    return this.#options.places;
  }

  /** Undefined where the node is not told to have a pool of that name. */
  state(name: string): PoolState | undefined {
    return this.#states.get(name);
  }

  /** Those that kubelet can use. */
  get opened(): ServedPool[] {
    return [...this.#states.values()].flatMap((state) => ('pool' in state ? [state.pool] : []));
  }

  /** Those that the cluster decides over. */
  get served(): ServedPool[] {
    return [...this.#states.values()].flatMap((state) => (state.kind === 'serving' ? [state.pool] : []));
  }

  /** Only then is something that no pool holds not there. */
  get areAllServed(): boolean {
    return [...this.#states.values()].every(({ kind }) => kind === 'serving');
  }

  /**
   * The pool that holds a disk; undefined where none does.
   *
   * @throws LaminaError `pool-unavailable` where it may be in one that is not served now
   */
  findDisk(diskId: string): ServedPool | undefined {
    const holder = this.opened.find(({ context }) => hasDisk(context, diskId));
    if (holder || this.opened.length === this.#states.size) return holder;
    throw new LaminaError(
      'pool-unavailable',
      `disk ${diskId} may be in a pool of this node that is not served now (${this.#complaints().join('; ')})`,
    );
  }

  /** Opens all pools, and those that fail again and again, until `signal`; then closes them. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#options.places.map((place) => this.#keepOpen(place, signal)));
  }

  async #keepOpen(place: PoolPlace, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    let refused: unknown;
    while (!signal.aborted) {
      try {
        await this.#serve(place, refused, signal);
      } catch (error) {
        if (signal.aborted) return;
        const isNews = refused === undefined || messageOf(error) !== messageOf(refused);
        if (isNews) logger.error({ error, pool: place.name }, 'the pool cannot be served');
        refused = error;
        this.#set(place.name, { kind: 'failed', error });
        await pause(clock, retryMs, signal);
      }
    }
  }

  /** Opens a pool and serves it until `signal`. @throws where it cannot be served */
  async #serve(place: PoolPlace, refused: unknown, signal: AbortSignal): Promise<void> {
    const { logger, open, confirm } = this.#options;
    const pool = await open(place, signal);
    try {
      this.#set(place.name, { kind: 'opened', pool, refused });
      await confirm(place, pool, signal);
      logger.info({ pool: place.name, directory: place.directory }, 'the pool is served');
      this.#set(place.name, { kind: 'serving', pool });
      await untilAborted(signal);
    } finally {
      await pool.close();
    }
  }

  #set(name: string, state: PoolState): void {
    this.#states.set(name, state);
    this.#options.onChange(name);
  }

  #complaints(): string[] {
    return [...this.#states].flatMap(([name, state]) => {
      if ('pool' in state) return [];
      return [`${name}: ${state.kind === 'starting' ? 'it is starting' : messageOf(state.error)}`];
    });
  }
}

function hasDisk({ pool }: DiskContext, diskId: string): boolean {
  return (pool.disks as ReadonlyMap<string, unknown>).has(diskId);
}
