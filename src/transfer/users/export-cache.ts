import { type Clock } from '../../lib/clock.ts';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import type { Pool } from '../../store/pool.ts';
import type { Format, LayerId } from '../../store/records.ts';
import { type DiskExport, openDiskExport } from './disk-export.ts';

/** Each has a daemon. */
const maxOpen = 4;
/** Who reads in ranges asks for the next soon. */
const idleMs = 10_000;

interface Entry {
  opened: Promise<DiskExport>;
  users: number;
  cancel: () => void;
}

/** Keeps exports open while somebody reads them, and a while longer. */
export class ExportCache {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();

  /** @param directory as of openDiskExport */
  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  /** Runs `work` with an export of `layer`. @throws LaminaError `busy` where too many are open */
  async use<T>(
    pool: Pool,
    { layer, format }: { layer: LayerId; format: Format },
    work: (disk: DiskExport) => Promise<T>,
  ): Promise<T> {
    const key = [pool.id, layer, format].join(' ');
    const entry = this.#entries.get(key) ?? this.#open(key, pool, { layer, format });
    entry.cancel();
    entry.users++;
    try {
      return await work(await entry.opened);
    } catch (error) {
      // Its daemon may have died: who asks next gets another one.
      if (isLaminaError(error, 'tool-failed')) this.#forget(key, entry);
      throw error;
    } finally {
      entry.users--;
      if (entry.users === 0) this.#leave(key, entry);
    }
  }

  /** Nobody may use any of them any more. */
  async close(): Promise<void> {
    await Promise.all([...this.#entries].map(([key, entry]) => this.#close(key, entry)));
  }

  #open(key: string, pool: Pool, { layer, format }: { layer: LayerId; format: Format }): Entry {
    this.#makeRoom();
    const opened = openDiskExport(pool, layer, { format, directory: this.#directory });
    const entry: Entry = { opened, users: 0, cancel: () => {} };
    this.#entries.set(key, entry);
    opened.catch(() => this.#forget(key, entry));
    return entry;
  }

  #makeRoom(): void {
    if (this.#entries.size < maxOpen) return;
    const idle = [...this.#entries].find(([, { users }]) => users === 0);
    if (!idle) throw new LaminaError('busy', `${maxOpen} disks are being exported already; try again later`);
    void this.#close(...idle);
  }

  #leave(key: string, entry: Entry): void {
    if (this.#entries.get(key) !== entry) void this.#close(key, entry);
    else entry.cancel = this.#clock.schedule(idleMs, () => void this.#close(key, entry));
  }

  async #close(key: string, entry: Entry): Promise<void> {
    entry.cancel();
    this.#forget(key, entry);
    await entry.opened.then(
      (disk) => disk.close(),
      () => {},
    );
  }

  #forget(key: string, entry: Entry): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
  }
}
