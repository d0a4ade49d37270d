import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { processesNaming, type Standalone, startStandalone } from '../standalone.ts';
import { makeWorkspace, removeWorkspace, type Workspace } from '../workspace.ts';

let workspace: Workspace;
let standalone: Standalone;

beforeAll(async () => {
  workspace = await makeWorkspace({ base: '/tmp', prefix: 'lamina-metrics-', neededBytes: 2 * GiB });
  standalone = await startStandalone({ ...workspace, args: ['--metrics-socket', socketPath(), '--node-name', 'here'] });
});

afterAll(async () => {
  try {
    await standalone.stop();
  } finally {
    await removeWorkspace(workspace.directory);
  }
});

const socketPath = () => path.join(workspace.directory, 'metrics.sock');

async function ask(url: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  request({ socketPath: socketPath(), path: url, agent: false }, resolve).on('error', reject).end();
  return text(await promise);
}

/** The value of a time series, by its name with labels. */
async function valueOf(series: string): Promise<number | undefined> {
  const lines = (await ask('/metrics')).split('\n');
  const line = lines.find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

const ofPool = (name: string) => valueOf(`lamina_pool_${name}{pool="default",node="here"}`);

describe('the metrics of a volume that is used', () => {
  it('tell of its pool, calls, daemon, freezes, merged layers and the death of its daemon', async () => {
    const { client } = standalone;
    const sizeBytes = 256 * MiB;
    const volume = await client.createVolume({ name: 'v', sizeBytes });
    const target = await client.attach(volume, workspace.mounts);
    expect(await ofPool('disks')).toBe(1);
    expect(await ofPool('provisioned_bytes')).toBe(sizeBytes);
    expect(await valueOf('lamina_engine_daemons{state="running"}')).toBe(1);
    expect(await valueOf('lamina_csi_call_duration_seconds_count{rpc="CreateVolume",code="OK"}')).toBe(1);

    for (const name of ['s1', 's2']) {
      writeFileSync(path.join(target, name), randomBytes(16 * MiB), { flush: true });
      await client.createSnapshot(volume.id, name);
    }
    expect(await ofPool('snapshots')).toBe(2);
    expect(await ofPool('allocated_bytes')).toBeGreaterThan(32 * MiB);
    expect(await valueOf('lamina_freeze_duration_seconds_count')).toBe(2);
    expect(await valueOf('lamina_freeze_duration_seconds_sum')).toBeGreaterThan(0);

    const [daemon] = (await processesNaming(workspace.runDir)).filter(({ command }) =>
      command.includes('storage-daemon'),
    );
    process.kill(daemon?.pid ?? 0, 'SIGKILL');
    await expect.poll(() => valueOf('lamina_engine_deaths_total'), { timeout: 30_000 }).toBe(1);
    expect(await valueOf('lamina_engine_daemons{state="dead"}')).toBe(1);

    await client.detach(volume.id, workspace.mounts);
    expect(await valueOf('lamina_engine_daemons{state="dead"}')).toBe(0);
    const { entries } = await client.controller.listSnapshots();
    for (const { snapshot } of entries) {
      await client.controller.deleteSnapshot({ snapshotId: snapshot?.snapshotId ?? '' });
    }
    await expect.poll(() => valueOf('lamina_compaction_duration_seconds_count'), { timeout: 30_000 }).toBe(1);
    expect(await valueOf('lamina_compaction_bytes_total')).toBeGreaterThan(32 * MiB);
    await client.controller.deleteVolume({ volumeId: volume.id });
    await expect.poll(() => ofPool('allocated_bytes'), { timeout: 30_000 }).toBe(0);
    expect(await ofPool('disks')).toBe(0);
  });
});
