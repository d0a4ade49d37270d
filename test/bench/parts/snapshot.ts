import path from 'node:path';
import { GiB, KiB } from '../../../src/lib/bytes.ts';
import type { CreatedVolume } from '../../csi-client.ts';
import { Writer } from '../../demo/writer.ts';
import { attach, type Bench, detach, fill, readMetric, timed, uniqueName } from '../bench.ts';
import { startLoad } from '../fio.ts';
import { medianResult, type Result } from '../results.ts';
import { percentile } from '../statistics.ts';

/** Snapshots of one mount; then the volume is detached and its layers are merged, as chains would get long otherwise. */
const perMount = 10;
const freezes = 'lamina_freeze_duration_seconds';

interface Measured {
  callMs: number[];
  freezeMs: number[];
  writerPauseMs: number[];
  failedLoads: number;
}

/** Snapshots of a mounted ext4 volume while fio and a program that calls fdatasync after each write are at work on it. */
export async function measureSnapshots(bench: Bench): Promise<Result[]> {
  const { csi, effort, say } = bench;
  say(`snapshot: ${effort.liveSnapshots} snapshots under fio`);
  const volume = await csi.createVolume({ name: uniqueName('live'), sizeBytes: 4 * GiB });
  const measured: Measured = { callMs: [], freezeMs: [], writerPauseMs: [], failedLoads: 0 };
  while (measured.callMs.length < effort.liveSnapshots) await measureOneMount(bench, volume, measured);
  await csi.deleteVolume(volume.id);
  const { callMs, freezeMs, writerPauseMs, failedLoads } = measured;
  return [
    medianResult('live snapshot under fio, whole call', 'ms', callMs),
    medianResult('freeze window under fio, p50', 'ms', freezeMs),
    medianResult('freeze window under fio, p99', 'ms', [percentile(freezeMs, 99)], { atMost: 150 }),
    medianResult('longest fdatasync around a snapshot under fio', 'ms', writerPauseMs),
    medianResult('I/O errors under live snapshots', 'runs', [failedLoads], { atMost: 0 }),
  ];
}

async function measureOneMount(bench: Bench, volume: CreatedVolume, measured: Measured): Promise<void> {
  const { csi } = bench;
  const target = await attach(bench, volume);
  const file = path.join(target, 'load');
  await fill(file, GiB / 2);
  const load = startLoad({ file, pattern: 'randrw', blockBytes: 4 * KiB, queueDepth: 32, sizeBytes: GiB / 2 });
  const writer = new Writer(path.join(target, 'journal'));
  const snapshots: string[] = [];
  try {
    for (let count = 0; count < perMount; count++) {
      await writer.goesOn(20);
      snapshots.push(await measureOne(bench, volume, { writer, measured }));
    }
    if (!load.isRunning()) measured.failedLoads++;
  } finally {
    if ((await load.end()).error !== 0) measured.failedLoads++;
    await writer.stop();
  }
  await detach(bench, volume);
  for (const snapshot of snapshots) await csi.deleteSnapshot(snapshot);
}

/** @returns the snapshot's id */
async function measureOne(
  bench: Bench,
  volume: CreatedVolume,
  { writer, measured }: { writer: Writer; measured: Measured },
): Promise<string> {
  writer.resetPause();
  const before = await readMetric(bench, `${freezes}_sum`);
  const { value, ms } = await timed(() => bench.csi.createSnapshot(volume.id, uniqueName('live-snapshot')));
  await writer.goesOn(2);
  measured.callMs.push(ms);
  measured.freezeMs.push(((await readMetric(bench, `${freezes}_sum`)) - before) * 1000);
  measured.writerPauseMs.push(writer.longestPauseMs);
  return value.id;
}
