import { formatBytes, GiB } from '../../lib/bytes.ts';
import { type Clock, pause } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import type { PoolSpace } from '../../store/space.ts';
import type { Attachment } from '../attach/attachment.ts';
import { type DiskContext, isThick } from '../disks/disk-context.ts';
import type { DeviceFreezer } from './device-freezer.ts';
import type { WritePause } from './staging-port.ts';

export interface WritePausesOptions {
  context: Pick<DiskContext, 'pool' | 'space' | 'logger'>;
  freezer: Pick<DeviceFreezer, 'pause' | 'whileNotPaused'>;
  attachment: (diskId: string) => Promise<Attachment | null>;
  /** What all file systems of this machine have cached and not written yet. */
  unwrittenBytes: () => Promise<number>;
  /** What those of the pool's disks hold beyond what the images occupy. */
  unallocatedBytes: () => Promise<number>;
  /** How long writes wait for room at most, before they fail where there is none; 0 for not at all. */
  longestMs: number;
  /** Called with a disk whose writes wait now, or go on. */
  onChange: (diskId: string) => void;
  clock: Clock;
}

/** Nothing fills a pool faster: what is free is looked at again before it can be gone. */
const fillBytesPerSecond = 2 * GiB;
const shortestLookMs = 20;
const longestLookMs = 5000;
/** For so long a disk is left alone that was made visible meanwhile: kubelet changes owners, and the pod starts, which could not be ended. */
const settleMs = 60_000;
/** While writes wait, or nothing more can be done. */
const waitingLookMs = 1000;

/**
 * Has writes to the mounted thin disks of a pool wait before its file system is full, and go on when there is room again, so
 * that they do not fail. Who waits cannot be ended, by SIGKILL neither: it is over after a while, with room or without.
 */
export class WritePauses implements WritePause {
  readonly #options: WritePausesOptions;
  readonly #paused = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  /** When a disk was made visible last, or taken away, while others were paused. */
  readonly #busyMs = new Map<string, number>();
  /** Ends all pauses; null while the pool has room, or had none for too long. */
  #over: AbortController | null = null;
  #sinceMs = 0;
  /** Whether the pool was really short, rather than about to be by what was cached, and has not had room since. */
  #wasShort = false;
  #isGivenUp = false;

  constructor(options: WritePausesOptions) {
    this.#options = options;
  }

  /** How many disks' writes wait. */
  get count(): number {
    return this.#paused.size;
  }

  has(diskId: string): boolean {
    return this.#paused.has(diskId);
  }

  async whileNotPaused<T>(diskId: string, work: () => Promise<T>): Promise<T> {
    try {
      return await this.#options.freezer.whileNotPaused(diskId, work);
    } finally {
      for (const id of this.#busyMs.keys()) if (!this.#isBusy(id)) this.#busyMs.delete(id);
      if (this.#over) this.#busyMs.set(diskId, this.#options.clock.elapsedMs());
    }
  }

  /** Looks after the pool until `signal`; nothing is paused any more then. */
  async run(signal: AbortSignal): Promise<void> {
    const { context, clock, longestMs } = this.#options;
    if (longestMs === 0) return;
    while (!signal.aborted) {
      let nextMs = waitingLookMs;
      try {
        nextMs = await this.#look();
      } catch (error) {
        context.logger.error({ error: messageOf(error) }, 'free space cannot be looked at');
      }
      await pause(clock, nextMs, signal);
    }
    await this.#end();
  }

  /** @returns after how many milliseconds to look again */
  async #look(): Promise<number> {
    const space = await this.#options.context.space.space();
    const { freeBytes, pauseBytes, resumeBytes } = space;
    if (pauseBytes === 0) return longestLookMs;
    const leftBytes = freeBytes - (await this.#cachedBytes(space));
    if (freeBytes < pauseBytes) this.#wasShort = true;
    else if (freeBytes >= resumeBytes) this.#wasShort = false;
    if (leftBytes < pauseBytes) {
      if (!this.#over && !this.#isGivenUp) this.#begin(freeBytes);
    } else if (!this.#wasShort) {
      this.#isGivenUp = false;
      await this.#end();
    }
    if (this.#over) await this.#goOn(freeBytes);
    if (this.#over || this.#isGivenUp) return waitingLookMs;
    const untilFullMs = ((leftBytes - pauseBytes) / fillBytesPerSecond) * 1000;
    return Math.min(longestLookMs, Math.max(shortestLookMs, untilFullMs));
  }

  /** What may take space soon. The kernel does not tell whose it is that is cached: all of it is ours where space is short. */
  async #cachedBytes({ freeBytes, pauseBytes, warning }: PoolSpace): Promise<number> {
    const { unwrittenBytes, unallocatedBytes } = this.#options;
    const unwritten = await unwrittenBytes();
    if (warning || freeBytes - unwritten >= pauseBytes) return unwritten;
    return Math.min(unwritten, await unallocatedBytes());
  }

  #begin(freeBytes: number): void {
    const { context, clock } = this.#options;
    this.#over = new AbortController();
    this.#sinceMs = clock.elapsedMs();
    const fields = { pool: context.pool.layout.root, free: formatBytes(freeBytes) };
    context.logger.warn(fields, 'the pool is nearly full: writes to mounted disks wait for room');
  }

  /** Pauses what is not paused yet, or gives up. */
  async #goOn(freeBytes: number): Promise<void> {
    const { context, clock, longestMs } = this.#options;
    const waitedMs = clock.elapsedMs() - this.#sinceMs;
    if (waitedMs >= longestMs) {
      const fields = { pool: context.pool.layout.root, free: formatBytes(freeBytes), waitedMs: Math.round(waitedMs) };
      context.logger.error(fields, 'no room was made: writes go on, and fail when the pool is full');
      this.#isGivenUp = true;
      return this.#end();
    }
    for (const id of context.pool.attachedDisks()) {
      if (isThick(context.pool, context.pool.disk(id)) || this.#running.has(id) || this.#isBusy(id)) continue;
      this.#running.set(id, this.#pause(id, this.#over?.signal ?? AbortSignal.abort()));
    }
  }

  #isBusy(diskId: string): boolean {
    const sinceMs = this.#busyMs.get(diskId);
    return sinceMs !== undefined && this.#options.clock.elapsedMs() - sinceMs < settleMs;
  }

  async #pause(diskId: string, signal: AbortSignal): Promise<void> {
    const { context, freezer, attachment, onChange } = this.#options;
    try {
      const found = await attachment(diskId);
      // Freezing flushes, for which a daemon that does not answer would be waited for.
      if (found?.state !== 'healthy' || !found.device) return;
      await freezer.pause(diskId, found.device, signal, () => {
        this.#paused.add(diskId);
        context.logger.warn({ diskId }, 'writes to the disk wait for room in the pool');
        onChange(diskId);
      });
    } catch (error) {
      context.logger.error(
        { diskId, error: messageOf(error) },
        'the disk cannot be paused, or not be freed from its pause',
      );
    } finally {
      this.#running.delete(diskId);
      if (this.#paused.delete(diskId)) onChange(diskId);
    }
  }

  async #end(): Promise<void> {
    if (!this.#over) return;
    this.#over.abort();
    this.#over = null;
    await Promise.all(this.#running.values());
  }
}
