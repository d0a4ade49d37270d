import type { Registry } from 'prom-client';
import { beforeEach, describe, expect, it } from 'vitest';
import { createControllerMetrics, createNodeMetrics, createStandaloneMetrics } from '../../../src/telemetry/metrics.ts';
import type { PoolReading } from '../../../src/telemetry/pool-metrics.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { MemoryLogger } from '../../fakes/memory-logger.ts';

let clock: ManualClock;
let logger: MemoryLogger;
const options = () => ({ version: '1.2.3', clock, logger });

beforeEach(() => {
  clock = new ManualClock();
  logger = new MemoryLogger();
});

/** The lines of metrics whose names begin with `prefix`. */
async function scrape({ registry }: { registry: Registry }, prefix: string): Promise<string[]> {
  const text = await registry.metrics();
  return text.split('\n').filter((line) => line.startsWith(prefix));
}

const pool: PoolReading = {
  pool: 'default',
  node: 'worker-a',
  sizeBytes: 1000,
  freeBytes: 400,
  criticalMarkBytes: 20,
  provisionedBytes: 1500,
  allocatedBytes: 600,
  availableThinBytes: 500,
  availableThickBytes: 380,
  pausedDisks: 0,
  disks: 3,
  snapshots: 2,
  images: 1,
  orphans: 4,
};

describe('what happens is counted:', () => {
  it('calls by RPC and code, in seconds', async () => {
    const metrics = createNodeMetrics(options());
    metrics.observeCall({ rpc: 'CreateVolume', code: 'OK', durationMs: 30 });
    metrics.observeCall({ rpc: 'CreateVolume', code: 'OK', durationMs: 250 });
    metrics.observeCall({ rpc: 'CreateVolume', code: 'ABORTED', durationMs: 1 });
    expect(await scrape(metrics, 'lamina_csi_call')).toEqual(
      expect.arrayContaining([
        'lamina_csi_call_duration_seconds_count{rpc="CreateVolume",code="OK"} 2',
        'lamina_csi_call_duration_seconds_sum{rpc="CreateVolume",code="OK"} 0.28',
        'lamina_csi_call_duration_seconds_bucket{le="0.05",rpc="CreateVolume",code="OK"} 1',
        'lamina_csi_call_duration_seconds_count{rpc="CreateVolume",code="ABORTED"} 1',
      ]),
    );
  });

  it('freezes, dead daemons and merged layers', async () => {
    const metrics = createStandaloneMetrics(options());
    metrics.observeFreeze(80);
    metrics.countEngineDeath();
    metrics.countEngineDeath();
    metrics.observeMerge({ costBytes: 4096, durationMs: 1500 });
    expect(await scrape(metrics, 'lamina_freeze_duration_seconds_sum')).toEqual([
      'lamina_freeze_duration_seconds_sum 0.08',
    ]);
    expect(await scrape(metrics, 'lamina_engine_deaths')).toEqual(['lamina_engine_deaths_total 2']);
    expect(await scrape(metrics, 'lamina_compaction_bytes')).toEqual(['lamina_compaction_bytes_total 4096']);
    expect(await scrape(metrics, 'lamina_compaction_duration_seconds_count')).toEqual([
      'lamina_compaction_duration_seconds_count 1',
    ]);
  });

  it('reconciles, and how many objects wait for one', async () => {
    const metrics = createControllerMetrics(options());
    metrics.observeReconcile({ controller: 'placement', result: 'done', durationMs: 20 });
    metrics.observeReconcile({ controller: 'placement', result: 'conflict', durationMs: 20 });
    metrics.observeQueue({ controller: 'placement', length: 7 });
    metrics.observeQueue({ controller: 'placement', length: 2 });
    expect(await scrape(metrics, 'lamina_reconcile_duration_seconds_count')).toEqual([
      'lamina_reconcile_duration_seconds_count{controller="placement",result="done"} 1',
      'lamina_reconcile_duration_seconds_count{controller="placement",result="conflict"} 1',
    ]);
    expect(await scrape(metrics, 'lamina_reconcile_queue')).toEqual([
      'lamina_reconcile_queue_length{controller="placement"} 2',
    ]);
  });

  it('lists, failed watches and events that were not sent', async () => {
    const metrics = createNodeMetrics(options());
    metrics.observeList({ kind: 'DiskImage' });
    metrics.observeWatchFailure({ kind: 'DiskImage' });
    metrics.observeDroppedEvent({ why: 'too-many' });
    expect(await scrape(metrics, 'lamina_lists')).toEqual(['lamina_lists_total{kind="DiskImage"} 1']);
    expect(await scrape(metrics, 'lamina_watch')).toEqual(['lamina_watch_failures_total{kind="DiskImage"} 1']);
    expect(await scrape(metrics, 'lamina_events')).toEqual(['lamina_events_dropped_total{why="too-many"} 1']);
  });

  it('transfers, while they run and when they have ended', async () => {
    const metrics = createNodeMetrics(options());
    const first = metrics.beginTransfer('import');
    const second = metrics.beginTransfer('import');
    first.addBytes(1000);
    first.addBytes(24);
    expect(await scrape(metrics, 'lamina_transfers_active')).toEqual(['lamina_transfers_active{kind="import"} 2']);
    first.end('done');
    second.end('failed');
    expect(await scrape(metrics, 'lamina_transfers_active')).toEqual(['lamina_transfers_active{kind="import"} 0']);
    expect(await scrape(metrics, 'lamina_transfer_bytes')).toEqual(['lamina_transfer_bytes_total{kind="import"} 1024']);
    expect(await scrape(metrics, 'lamina_transfer_duration_seconds_count')).toEqual([
      'lamina_transfer_duration_seconds_count{kind="import",result="done"} 1',
      'lamina_transfer_duration_seconds_count{kind="import",result="failed"} 1',
    ]);
  });
});

describe('what is, is looked at when it is asked for:', () => {
  it('pools, all of a scrape in one look', async () => {
    const metrics = createNodeMetrics(options());
    let looks = 0;
    let freeBytes = 400;
    metrics.readPools(async () => {
      looks++;
      return [
        { ...pool, freeBytes },
        { ...pool, pool: 'fast' },
      ];
    });
    expect(await scrape(metrics, 'lamina_pool_')).toEqual(
      expect.arrayContaining([
        'lamina_pool_free_bytes{pool="default",node="worker-a"} 400',
        'lamina_pool_orphans{pool="fast",node="worker-a"} 4',
      ]),
    );
    expect(looks).toBe(1);
    freeBytes = 300;
    expect(await scrape(metrics, 'lamina_pool_free')).toContain(
      'lamina_pool_free_bytes{pool="default",node="worker-a"} 300',
    );
    expect(looks).toBe(2);
  });

  it('a pool that is not served any more is gone', async () => {
    const metrics = createNodeMetrics(options());
    let pools = [pool];
    metrics.readPools(() => pools);
    expect(await scrape(metrics, 'lamina_pool_disks')).toHaveLength(1);
    pools = [];
    expect(await scrape(metrics, 'lamina_pool_disks')).toEqual([]);
  });

  it('what cannot be read is left out, and told once; all else is there', async () => {
    const metrics = createNodeMetrics(options());
    metrics.readPools(async () => {
      throw new Error('the disk is gone');
    });
    await scrape(metrics, '');
    expect(await scrape(metrics, 'lamina_pool_')).toEqual([]);
    expect(await scrape(metrics, 'lamina_build_info')).toEqual(['lamina_build_info{role="node",version="1.2.3"} 1']);
    expect(logger.entries.map(({ message }) => message)).toEqual(['metrics cannot be read; left out']);
  });

  it('a disk that hangs holds up no scrape for longer than five seconds, nor is it asked again meanwhile', async () => {
    const metrics = createNodeMetrics(options());
    let looks = 0;
    const { promise, resolve } = Promise.withResolvers<PoolReading[]>();
    metrics.readPools(() => {
      looks++;
      return promise;
    });
    for (const _ of [1, 2]) {
      const scraped = scrape(metrics, 'lamina_pool_');
      await expect.poll(() => clock.pending.length).toBeGreaterThan(0);
      clock.advance(5000);
      expect(await scraped).toEqual([]);
    }
    expect(looks).toBe(1);
    resolve([pool]);
    await promise;
    expect(await scrape(metrics, 'lamina_pool_disks')).toHaveLength(1);
    expect(clock.pending).toEqual([]);
  });

  it('daemons by state, and none of a state as 0; left out where the engine does not answer', async () => {
    const metrics = createNodeMetrics(options());
    metrics.readDaemons(() => [{ state: 'running' }, { state: 'dead' }, { state: 'running' }]);
    expect(await scrape(metrics, 'lamina_engine_daemons')).toEqual([
      'lamina_engine_daemons{state="running"} 2',
      'lamina_engine_daemons{state="dead"} 1',
      'lamina_engine_daemons{state="unresponsive"} 0',
    ]);
    metrics.readDaemons(async () => {
      throw new Error('no engine');
    });
    expect(await scrape(metrics, 'lamina_engine_daemons')).toEqual([]);
  });

  it('objects by whether they are ready, and the leadership', async () => {
    const metrics = createControllerMetrics(options());
    metrics.readObjects(() => [{ kind: 'DiskImage', ready: 'False', count: 3, longestMs: 90_000 }]);
    metrics.setLeader(true);
    expect(await scrape(metrics, 'lamina_objects')).toEqual([
      'lamina_objects{kind="DiskImage",ready="False"} 3',
      'lamina_objects_longest_seconds{kind="DiskImage",ready="False"} 90',
    ]);
    expect(await scrape(metrics, 'lamina_leader')).toEqual(['lamina_leader 1']);
  });
});

describe('a registry', () => {
  it('keeps to itself: two in one process do not meet', async () => {
    const first = createNodeMetrics(options());
    createNodeMetrics(options()).countEngineDeath();
    expect(await scrape(first, 'lamina_engine_deaths')).toEqual(['lamina_engine_deaths_total 0']);
  });

  it('has only what its role does', async () => {
    const names = (metrics: { registry: Registry }) => metrics.registry.getMetricsAsArray().map(({ name }) => name);
    expect(names(createControllerMetrics(options()))).not.toContain('lamina_pool_disks');
    expect(names(createStandaloneMetrics(options()))).not.toContain('lamina_pool_orphans');
    expect(names(createNodeMetrics(options()))).not.toContain('lamina_leader');
  });
});
