import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { GiB, MiB } from '../../../src/lib/bytes.ts';
import { pollUntil } from '../../../src/lib/poll.ts';
import { CsiClient, type CreatedVolume } from '../../csi-client.ts';
import { type Bench, fileIn, fill, interleave, timed, uniqueName } from '../bench.ts';
import { medianResult, type Result } from '../results.ts';

const dataBytes = 512 * MiB;
const operations = ['create', 'snapshot', 'restore', 'clone', 'delete'] as const;
type Durations = Record<(typeof operations)[number], number>;

/** The same calls of csi-driver-host-path, which copies, beside ours: volumes with a file system and 512 MiB in a file. */
export async function measureBesideHostPath(bench: Bench, binary: string): Promise<Result[]> {
  bench.say('latency: the same beside csi-driver-host-path');
  const directory = fileIn(bench, 'host-path');
  const driver = await startHostPath(binary, directory);
  const rounds = Math.max(3, Math.round(bench.effort.calls / 8));
  const measure = (csi: CsiClient) => () => measureOnce(csi, bench.workspace.mounts);
  try {
    const [ours = [], theirs = []] = await interleave(rounds, [bench.csi, driver.csi].map(measure));
    const line = (who: string, all: readonly Durations[]) =>
      operations.map((name) =>
        medianResult(
          `${who}: ${name}, 512 MiB of data`,
          'ms',
          all.map((durations) => durations[name]),
        ),
      );
    return [...line('Lamina', ours), ...line('host-path', theirs)];
  } finally {
    await driver.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function measureOnce(csi: CsiClient, mounts: string): Promise<Durations> {
  const create = await timed(() => csi.createVolume({ name: uniqueName('beside'), sizeBytes: GiB }));
  const volume = create.value;
  await fill(path.join(await csi.attach(volume, mounts), 'data'), dataBytes);
  await csi.detach(volume.id, mounts);
  const snapshot = await timed(() => csi.createSnapshot(volume.id, uniqueName('beside-snapshot')));
  const copy = (source: { snapshotId: string } | { volumeId: string }): Promise<{ value: CreatedVolume; ms: number }> =>
    timed(() => csi.createVolume({ name: uniqueName('beside-copy'), sizeBytes: GiB, source }));
  const restore = await copy({ snapshotId: snapshot.value.id });
  const clone = await copy({ volumeId: volume.id });
  const deleted = await timed(() => csi.deleteVolume(volume.id));
  await csi.deleteVolume(restore.value.id);
  await csi.deleteVolume(clone.value.id);
  await csi.deleteSnapshot(snapshot.value.id);
  return { create: create.ms, snapshot: snapshot.ms, restore: restore.ms, clone: clone.ms, delete: deleted.ms };
}

async function startHostPath(binary: string, directory: string) {
  await mkdir(directory);
  const socket = path.join(directory, 'csi.sock');
  const options = [
    `--endpoint=unix://${socket}`,
    `--statedir=${directory}`,
    '--nodeid=bench',
    '--drivername=hostpath.csi.k8s.io',
  ];
  const child = spawn(binary, options, { stdio: ['ignore', 'ignore', 'pipe'] });
  let words = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-2000);
  });
  const ended = once(child, 'exit');
  const csi = new CsiClient(socket);
  const stop = async (): Promise<void> => {
    csi.close();
    child.kill();
    await ended;
  };
  if (await pollUntil(() => csi.isReady(), { timeoutMs: 20_000, intervalMs: 50 })) return { csi, stop };
  await stop();
  throw new Error(`${binary} is not ready after 20 s: ${words}`);
}
