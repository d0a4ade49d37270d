import { beforeEach, describe, expect, it } from 'vitest';
import { WritePauses } from '../../../../src/engine/staging/write-pauses.ts';
import { MiB } from '../../../../src/lib/bytes.ts';
import { untilAborted } from '../../../../src/lib/abort.ts';
import type { Attachment } from '../../../../src/engine/attach/attachment.ts';
import { ManualClock } from '../../../fakes/manual-clock.ts';
import { MemoryLogger } from '../../../fakes/memory-logger.ts';

const device = { path: '/dev/loop7', major: 7, minor: 7 };
const healthy = { state: 'healthy', by: 'loop', device } as Attachment;

let clock: ManualClock;
let logger: MemoryLogger;
let free: number;
let unwritten: number;
let unallocated: number;
let attached: string[];
let thick: string[];
let states: Record<string, Attachment>;
/** What the freezer was asked for, and what it let go. */
let frozen: string[];
let changes: string[];
let stop: AbortController;

beforeEach(() => {
  clock = new ManualClock();
  logger = new MemoryLogger();
  [free, unwritten, unallocated] = [1000 * MiB, 0, 0];
  [attached, thick, frozen, changes] = [['a'], [], [], []];
  states = {};
  stop = new AbortController();
});

/** Marks: critical at 100 MiB, pause at 50, warning at 300. */
async function started(longestMs = 600_000): Promise<{ pauses: WritePauses; ended: Promise<void> }> {
  const space = async () => ({
    freeBytes: free,
    criticalBytes: 100 * MiB,
    pauseBytes: 50 * MiB,
    resumeBytes: 100 * MiB,
    warning: free < 300 * MiB,
  });
  const pool = {
    layout: { root: '/pool' },
    attachedDisks: () => attached,
    disk: (id: string) => ({ id, head: id, options: { preallocation: thick.includes(id) ? 'full' : 'off' } }),
    layer: () => ({ parent: null }),
  };
  const pauses = new WritePauses({
    context: { pool, space: { space }, logger } as never,
    freezer: {
      pause: async (id, _, signal, onPaused) => {
        frozen.push(id);
        onPaused();
        await untilAborted(signal);
        frozen.splice(frozen.indexOf(id), 1);
      },
      whileNotPaused: (_, work) => work(),
    },
    attachment: async (id) => states[id] ?? healthy,
    unwrittenBytes: async () => unwritten,
    unallocatedBytes: async () => unallocated,
    longestMs,
    onChange: (id) => changes.push(id),
    clock,
  });
  const ended = pauses.run(stop.signal);
  await after(0);
  return { pauses, ended };
}

/** Lets what was started come to rest. */
const settle = () => new Promise((resolve) => setImmediate(resolve));
async function after(ms: number): Promise<void> {
  clock.advance(ms);
  await settle();
  await settle();
}

describe('writes to the disks of a pool', () => {
  it('go on while there is room, wait from the mark on, and go on when nothing is critical any more', async () => {
    const { pauses } = await started();
    expect(frozen).toEqual([]);
    free = 50 * MiB;
    await after(5000);
    expect(frozen).toEqual([]);
    free -= 1;
    await after(5000);
    expect(frozen).toEqual(['a']);
    expect([pauses.has('a'), pauses.count]).toEqual([true, 1]);
    free = 99 * MiB;
    await after(5000);
    expect(frozen).toEqual(['a']);
    free = 100 * MiB;
    await after(5000);
    expect(frozen).toEqual([]);
    expect([pauses.has('a'), pauses.count]).toEqual([false, 0]);
    expect(changes).toEqual(['a', 'a']);
  });

  it('are looked at the sooner the less is left, and never more than fifty times a second', async () => {
    await started();
    expect(clock.pending.map(Math.round)).toEqual([464]);
    free = 51 * MiB;
    await after(464);
    expect(clock.pending).toEqual([20]);
    free = 1e13;
    await after(20);
    expect(clock.pending).toEqual([5000]);
  });

  it('wait before what is cached has filled the pool, and not for what others have cached while there is room', async () => {
    await started();
    free = 300 * MiB;
    unwritten = 250 * MiB;
    await after(5000);
    expect(frozen).toEqual([]);
    free = 299 * MiB;
    await after(5000);
    expect(frozen).toEqual(['a']);
    unwritten = 200 * MiB;
    await after(5000);
    expect(frozen).toEqual([]);
  });

  it('go on at the mark where what was cached took no space of the pool, and wait longer where it did', async () => {
    await started();
    [free, unwritten] = [80 * MiB, 31 * MiB];
    await after(5000);
    expect(frozen).toEqual(['a']);
    unwritten = 30 * MiB;
    await after(1000);
    expect(frozen).toEqual([]);
    unwritten = 31 * MiB;
    await after(1000);
    free = 49 * MiB;
    await after(1000);
    [free, unwritten] = [99 * MiB, 0];
    await after(1000);
    expect(frozen).toEqual(['a']);
    free = 100 * MiB;
    await after(1000);
    expect(frozen).toEqual([]);
  });

  it('wait for more than is free to be written of what their own file systems hold', async () => {
    await started();
    unwritten = 2000 * MiB;
    unallocated = 950 * MiB;
    await after(5000);
    expect(frozen).toEqual([]);
    unallocated += 1;
    await after(5000);
    expect(frozen).toEqual(['a']);
    unwritten = 900 * MiB;
    await after(5000);
    expect(frozen).toEqual([]);
  });

  it('do not wait where the disk has its space, or is not well', async () => {
    attached = ['a', 'thick', 'dead'];
    thick = ['thick'];
    states['dead'] = { ...healthy, state: 'dead' };
    await started();
    free = 0;
    await after(5000);
    await after(1000);
    expect(frozen).toEqual(['a']);
  });

  it('wait a minute later where the disk was made visible while others waited', async () => {
    attached = ['a', 'b'];
    const { pauses } = await started();
    await pauses.whileNotPaused('a', async () => {});
    free = 0;
    await after(5000);
    expect(frozen).toEqual(['a', 'b']);
    attached.push('c');
    await pauses.whileNotPaused('c', async () => {});
    await after(59_000);
    expect(frozen).toEqual(['a', 'b']);
    await after(1000);
    expect(frozen).toEqual(['a', 'b', 'c']);
  });

  it('go on after the longest pause, until there was room again', async () => {
    await started(10_000);
    free = 0;
    await after(5000);
    expect(frozen).toEqual(['a']);
    for (let second = 0; second < 10; second++) await after(1000);
    expect(frozen).toEqual([]);
    await after(60_000);
    expect(frozen).toEqual([]);
    expect(logger.entries.map(({ level }) => level)).toEqual(['warn', 'warn', 'error']);
    free = 100 * MiB;
    await after(1000);
    free = 0;
    await after(5000);
    expect(frozen).toEqual(['a']);
  });

  it('go on when the plugin stops, and never wait where no pause is wanted', async () => {
    const { ended } = await started();
    free = 0;
    await after(5000);
    expect(frozen).toEqual(['a']);
    stop.abort();
    await ended;
    expect(frozen).toEqual([]);
    stop = new AbortController();
    await (await started(0)).ended;
    expect(clock.pending).toEqual([]);
  });
});
