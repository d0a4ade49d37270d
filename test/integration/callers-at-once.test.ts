import { randomInt } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import type { CreatedVolume, CreateOptions, CsiClient } from '../csi-client.ts';
import { temporaryDirectory } from '../detached-pool.ts';
import { Ledger } from '../ledger.ts';
import { clearBelow, leaksOfStopped } from '../leaks.ts';
import { type Standalone, startStandalone } from '../standalone.ts';

/** LAMINA_CALLERS_SECONDS=600 for the long form. */
const seconds = Number(process.env['LAMINA_CALLERS_SECONDS'] ?? 30);
const most = { files: 10, snapshots: 5, brokenOff: 4, retryMs: 120_000 };

const kinds: Pick<CreateOptions, 'sizeBytes' | 'access' | 'parameters'>[] = [
  { sizeBytes: 64 * MiB },
  { sizeBytes: 320 * MiB, access: { kind: 'mount', fsType: 'xfs' } },
  { sizeBytes: 64 * MiB, parameters: { format: 'raw', liveSnapshots: 'true' } },
  { sizeBytes: 96 * MiB, parameters: { clusterSize: '4Ki' } },
];

/** A plugin that is killed now and then, and started again, while callers repeat what broke off. */
class KilledPlugin {
  readonly #directory: string;
  /** Calls that were broken off so often that they are to come to their end. */
  readonly #due = new Set<object>();
  #running: Promise<Standalone>;

  constructor(directory: string) {
    this.#directory = directory;
    this.#running = this.#start();
  }

  async call<T>(work: (client: CsiClient) => Promise<T>): Promise<T> {
    const lastMs = performance.now() + most.retryMs;
    for (let brokenOff = 0; ; ) {
      const used = await this.#running;
      try {
        const result = await work(used.client);
        this.#due.delete(work);
        return result;
      } catch (error) {
        const { code } = error as { code?: status };
        // Killed between two calls of one sequence: the client of what ended makes no other.
        const wasClosed = code === undefined && used !== (await this.#running);
        const isTransient = code === status.UNAVAILABLE || code === status.CANCELLED || code === status.ABORTED;
        if (!(isTransient || wasClosed) || performance.now() > lastMs) throw error;
        if (code !== status.ABORTED && ++brokenOff === most.brokenOff) this.#due.add(work);
        await delay(50);
      }
    }
  }

  async killUntil(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(randomInt(500, 4000));
      // What takes longer than the plugin lives, on a machine that is slow, would never end.
      while (this.#due.size > 0 && !signal.aborted) await delay(50);
      const killed = this.#running.then((standalone) => standalone.kill9());
      this.#running = killed.then(() => this.#start());
      await this.#running;
    }
  }

  async stop(): Promise<void> {
    await (await this.#running).stop();
  }

  #start(): Promise<Standalone> {
    const at = (name: string) => path.join(this.#directory, name);
    const args = ['--overcommit', '1000'];
    return startStandalone({ pool: at('pool'), socket: at('csi.sock'), runDir: at('run'), args });
  }
}

/** One who uses a volume of his own, and knows what each of its snapshots must hold. */
class Caller {
  readonly #name: string;
  readonly #kind: (typeof kinds)[number];
  readonly #plugin: KilledPlugin;
  readonly #mounts: string;
  readonly #ledger = new Ledger();
  readonly #written: string[] = [];
  readonly #snapshots: { id: string; files: string[] }[] = [];
  #files: string[] = [];
  #counter = 0;
  /** What was done, for who looks into a failure. */
  readonly history: string[] = [];

  constructor(name: string, kind: (typeof kinds)[number], plugin: KilledPlugin, mounts: string) {
    this.#name = name;
    this.#kind = kind;
    this.#plugin = plugin;
    this.#mounts = mounts;
  }

  async work(signal: AbortSignal): Promise<void> {
    let volume = await this.#create();
    let target = await this.#attach(volume);
    while (!signal.aborted) {
      const what = randomInt(8);
      if (what < 3) this.#write(target);
      else if (what === 3) await this.#takeSnapshot(volume);
      else if (what === 4) await this.#deleteSnapshot();
      else if (what === 5) await this.#compareCopy(await this.#create({ volumeId: volume.id }), this.#files);
      else if (what === 6) {
        await this.#detach(volume);
        target = await this.#attach(volume);
        this.#compare(target, this.#files);
      } else {
        const snapshot = this.#snapshots[randomInt(Math.max(1, this.#snapshots.length))];
        if (!snapshot) continue;
        const restored = await this.#create({ snapshotId: snapshot.id });
        if (randomInt(2) === 0) {
          await this.#compareCopy(restored, snapshot.files);
          continue;
        }
        await this.#detach(volume);
        await this.#delete(volume);
        [volume, this.#files] = [restored, [...snapshot.files]];
        target = await this.#attach(volume);
        this.#compare(target, this.#files);
      }
    }
    this.#compare(target, this.#files);
    await this.#detach(volume);
    this.#compare(await this.#attach(volume), this.#files);
    await this.#detach(volume);
    await this.#delete(volume);
    while (this.#snapshots.length > 0) await this.#deleteSnapshot();
  }

  async #create(source?: CreateOptions['source']): Promise<CreatedVolume> {
    const name = this.#next('v');
    this.history.push(`${name} of ${JSON.stringify(source ?? null)}`);
    const options: CreateOptions = { name, ...this.#kind, ...(source && { source }) };
    return this.#plugin.call((client) => client.createVolume(options));
  }

  #attach(volume: CreatedVolume): Promise<string> {
    this.history.push(`attach ${volume.id}`);
    return this.#plugin.call((client) => client.attach(volume, this.#mounts));
  }

  #detach({ id }: CreatedVolume): Promise<void> {
    this.history.push(`detach ${id}`);
    return this.#plugin.call((client) => client.detach(id, this.#mounts));
  }

  #delete({ id }: CreatedVolume): Promise<void> {
    this.history.push(`delete ${id}`);
    return this.#plugin.call((client) => client.deleteVolume(id));
  }

  #write(target: string): void {
    const [oldest] = this.#files;
    if (oldest !== undefined && this.#files.length === most.files) {
      rmSync(path.join(target, oldest));
      this.#files = this.#files.slice(1);
    }
    const file = this.#next('f');
    this.history.push(`write ${file}`);
    this.#ledger.write(path.join(target, file), randomInt(1, 2 * MiB));
    this.#written.push(file);
    this.#files = [...this.#files, file];
  }

  async #takeSnapshot({ id }: CreatedVolume): Promise<void> {
    if (this.#snapshots.length === most.snapshots) await this.#deleteSnapshot();
    const name = this.#next('s');
    this.history.push(`snapshot ${name} of ${id}`);
    const snapshot = await this.#plugin.call((client) => client.createSnapshot(id, name));
    this.#snapshots.push({ id: snapshot.id, files: [...this.#files] });
  }

  async #deleteSnapshot(): Promise<void> {
    if (this.#snapshots.length === 0) return;
    const [snapshot] = this.#snapshots.splice(randomInt(this.#snapshots.length), 1);
    this.history.push(`delete ${snapshot?.id}`);
    await this.#plugin.call((client) => client.deleteSnapshot(snapshot?.id ?? ''));
  }

  async #compareCopy(copy: CreatedVolume, files: readonly string[]): Promise<void> {
    this.#compare(await this.#attach(copy), files);
    await this.#detach(copy);
    await this.#delete(copy);
  }

  #compare(target: string, files: readonly string[]): void {
    const absent = this.#written.filter((file) => !files.includes(file));
    expect(this.#ledger.differences(target, files, absent)).toEqual([]);
  }

  #next(prefix: string): string {
    this.#counter += 1;
    return `${this.#name}-${prefix}${this.#counter}`;
  }
}

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
  mkdirSync(path.join(directory, 'pool'));
});
afterEach(() => clearBelow(directory));

it(
  'have all their bytes, in volumes, snapshots and clones, whenever the plugin is killed',
  async () => {
    const plugin = new KilledPlugin(directory);
    const callers = kinds.map((kind, index) => {
      return new Caller(`c${index}`, kind, plugin, path.join(directory, 'mounts'));
    });
    const killing = new AbortController();
    const killed = plugin.killUntil(killing.signal);
    const atEnd = AbortSignal.timeout(seconds * 1000);
    try {
      await Promise.all(
        callers.map((caller) =>
          caller.work(atEnd).catch((error: unknown) => {
            throw new Error(`after ${caller.history.slice(-20).join(', ')}`, { cause: error });
          }),
        ),
      );
    } finally {
      killing.abort();
      await killed;
    }
    await plugin.stop();
    expect(await checkPool(path.join(directory, 'pool'), () => {})).toMatchObject({
      layers: 0,
      disks: 0,
      snapshots: 0,
      problems: [],
      leftovers: [],
    });
    expect(await leaksOfStopped(directory)).toEqual([]);
  },
  (seconds + 300) * 1000,
);
