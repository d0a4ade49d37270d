import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { engineSteps } from '../../src/engine/attach/steps.ts';
import { freezeSteps, stagingSteps } from '../../src/engine/staging/staging-steps.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { checkPool } from '../../src/store/check.ts';
import { storeSteps } from '../../src/store/steps.ts';
import { type CreatedVolume, pathsBelow } from '../csi-client.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { KillablePlugin } from '../killable.ts';
import { Ledger } from '../ledger.ts';
import { clearBelow, leaksOfStopped } from '../leaks.ts';
import { mountImage, unmount } from '../loop-filesystem.ts';
import { ProvenPool } from '../proven-pool.ts';

/** Not a multiple of anything. */
const fileBytes = 3 * MiB + 17;

const steps = listSteps({ ...storeSteps, ...engineSteps, ...stagingSteps, ...freezeSteps });

interface Scene {
  plugin: KillablePlugin;
  /** Where volumes are staged and published. */
  mounts: string;
  ledger: Ledger;
}

/** Not ext4: growing a mounted one takes CAP_SYS_RESOURCE, which not every machine gives its root. */
const access = { kind: 'mount', fsType: 'xfs' } as const;

const publish = (scene: Scene, volume: CreatedVolume) =>
  scene.plugin.call((client) => client.attach(volume, scene.mounts));
const unpublish = (scene: Scene, volume: CreatedVolume) =>
  scene.plugin.call((client) => client.detach(volume.id, scene.mounts));

async function readBack(scene: Scene, volume: CreatedVolume, present: string[], absent: string[]): Promise<void> {
  expect(scene.ledger.differences(await publish(scene, volume), present, absent)).toEqual([]);
  await unpublish(scene, volume);
  expect(scene.ledger.differences(await publish(scene, volume), present, absent)).toEqual([]);
  await unpublish(scene, volume);
}

async function deleteAll(scene: Scene, volumes: CreatedVolume[], snapshots: string[]): Promise<void> {
  for (const id of snapshots) await scene.plugin.call((client) => client.deleteSnapshot(id));
  for (const { id } of volumes) await scene.plugin.call((client) => client.deleteVolume(id));
}

/** A thin volume's life: written, snapshotted while mounted, restored, cloned, grown online, compacted. */
async function thinLife(scene: Scene): Promise<void> {
  const { plugin, ledger, mounts } = scene;
  const volume = await plugin.call((client) => client.createVolume({ name: 'thin', sizeBytes: 300 * MiB, access }));
  const target = await publish(scene, volume);
  ledger.write(path.join(target, 'a'), fileBytes);
  const first = await plugin.call((client) => client.createSnapshot(volume.id, 'first'));
  ledger.write(path.join(target, 'b'), fileBytes);
  const restored = await plugin.call((client) =>
    client.createVolume({ name: 'restored', sizeBytes: 320 * MiB, access, source: { snapshotId: first.id } }),
  );
  await readBack(scene, restored, ['a'], ['b']);
  const clone = await plugin.call((client) =>
    client.createVolume({ name: 'clone', sizeBytes: 300 * MiB, access, source: { volumeId: volume.id } }),
  );
  await plugin.call((client) => client.expand(volume, 400 * MiB, pathsBelow(mounts, volume.id)));
  ledger.write(path.join(target, 'c'), fileBytes);
  await readBack(scene, clone, ['a', 'b'], ['c']);
  const second = await plugin.call((client) => client.createSnapshot(volume.id, 'second'));
  ledger.write(path.join(target, 'd'), fileBytes);
  await unpublish(scene, volume);
  await deleteAll(scene, [restored, clone], [first.id, second.id]);
  await readBack(scene, volume, ['a', 'b', 'c', 'd'], []);
  await deleteAll(scene, [volume], []);
}

/** Two sealed layers that nothing names any more are merged while the volume is detached. */
async function compaction(scene: Scene): Promise<void> {
  const { plugin, ledger } = scene;
  const volume = await plugin.call((client) => client.createVolume({ name: 'thin', sizeBytes: 64 * MiB }));
  const snapshots: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    ledger.write(path.join(await publish(scene, volume), name), fileBytes);
    await unpublish(scene, volume);
    snapshots.push((await plugin.call((client) => client.createSnapshot(volume.id, `s-${name}`))).id);
  }
  await deleteAll(scene, [], snapshots);
  await plugin.awaitKill(60_000);
  await readBack(scene, volume, ['a', 'b', 'c'], []);
  await deleteAll(scene, [volume], []);
}

/** The same while it stays mounted; the plugin that comes next has the daemon follow. */
async function liveCompaction(scene: Scene): Promise<void> {
  const { plugin, ledger } = scene;
  const volume = await plugin.call((client) => client.createVolume({ name: 'thin', sizeBytes: 64 * MiB }));
  const target = await publish(scene, volume);
  const snapshots: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    ledger.write(path.join(target, name), fileBytes);
    snapshots.push((await plugin.call((client) => client.createSnapshot(volume.id, `s-${name}`))).id);
  }
  await deleteAll(scene, [], snapshots);
  await plugin.awaitKill(60_000);
  ledger.write(path.join(target, 'd'), fileBytes);
  expect(ledger.differences(target, ['a', 'b', 'c', 'd'])).toEqual([]);
  await unpublish(scene, volume);
  await readBack(scene, volume, ['a', 'b', 'c', 'd'], []);
  await deleteAll(scene, [volume], []);
}

/** A preallocated raw volume on a plain loop device; on a pool that shares extents it is snapshotted while mounted. */
async function rawLife(scene: Scene, live: boolean): Promise<void> {
  const { plugin, ledger, mounts } = scene;
  const parameters = { format: 'raw', preallocation: 'falloc' };
  const volume = await plugin.call((client) =>
    client.createVolume({ name: 'raw', sizeBytes: 300 * MiB, access, parameters }),
  );
  const target = await publish(scene, volume);
  ledger.write(path.join(target, 'a'), fileBytes);
  await plugin.call((client) => client.expand(volume, 320 * MiB, pathsBelow(mounts, volume.id)));
  if (!live) await unpublish(scene, volume);
  const snapshot = await plugin.call((client) => client.createSnapshot(volume.id, 'raw-snapshot'));
  if (!live) await publish(scene, volume);
  ledger.write(path.join(target, 'b'), fileBytes);
  const restored = await plugin.call((client) =>
    client.createVolume({ name: 'restored', sizeBytes: 0, access, parameters, source: { snapshotId: snapshot.id } }),
  );
  await readBack(scene, restored, ['a'], ['b']);
  await unpublish(scene, volume);
  await readBack(scene, volume, ['a', 'b'], []);
  await deleteAll(scene, [volume, restored], [snapshot.id]);
}

/** Published read-only, as a file system and as a device, neither of which can be written to. */
async function readOnlyLife(scene: Scene): Promise<void> {
  const { plugin, ledger, mounts } = scene;
  const volume = await plugin.call((client) => client.createVolume({ name: 'thin', sizeBytes: 64 * MiB }));
  ledger.write(path.join(await publish(scene, volume), 'a'), fileBytes);
  await unpublish(scene, volume);
  const target = await plugin.call((client) => client.attach(volume, mounts, { readOnly: true }));
  expect(ledger.differences(target, ['a'])).toEqual([]);
  expect(() => writeFileSync(path.join(target, 'b'), 'x')).toThrow('EROFS');
  await unpublish(scene, volume);
  const device = { ...volume, access: { kind: 'block' } as const };
  const node = await plugin.call((client) => client.attach(device, mounts, { readOnly: true }));
  expect(() => writeFileSync(node, 'x')).toThrow(/EPERM|EACCES|EROFS/);
  await unpublish(scene, volume);
  await deleteAll(scene, [volume], []);
}

type Story = (scene: Scene) => Promise<void>;

/** Which story passes through a step; thinLife, where nothing else is said. */
const stories: Record<string, Story> = {
  compact: compaction,
  'follow-chain': liveCompaction,
  'attach-loop': (scene) => rawLife(scene, false),
  'resize-loop': (scene) => rawLife(scene, false),
  'publish-read-only': readOnlyLife,
  'publish-read-only-block': readOnlyLife,
  'unpublish-read-only-block': readOnlyLife,
  'detach-loop': (scene) => rawLife(scene, false),
  'copy-snapshot': (scene) => rawLife(scene, true),
};

describe('killed at any step, the plugin loses nothing and leaves nothing', () => {
  let proven: ProvenPool;
  let directory: string;
  beforeAll(async () => {
    proven = await ProvenPool.make();
  });
  afterAll(() => proven.remove());
  beforeEach(() => {
    directory = temporaryDirectory();
  });
  afterEach(() => clearBelow(directory));

  /** An xfs, which can share extents, where the story is about that. */
  function makePool(sharesExtents: boolean): string {
    if (sharesExtents) return mountImage(directory, 'pool', 'xfs', 2048 * MiB);
    proven.copyTo(directory);
    return path.join(directory, 'pool');
  }

  it.each(steps)('%s', async (step) => {
    const operation = step.split('/')[0] as string;
    const pool = makePool(operation === 'copy-snapshot');
    const [socket, runDir, mounts] = ['csi.sock', 'run', 'mounts'].map((name) => path.join(directory, name)) as [
      string,
      string,
      string,
    ];
    const plugin = new KillablePlugin({ pool, socket, runDir, args: ['--overcommit', '100'] }, step);
    await plugin.start();
    await (stories[operation] ?? thinLife)({ plugin, mounts, ledger: new Ledger() });
    await plugin.stop();
    expect(plugin.killed, `${step} was never reached`).toBe(true);
    const report = await checkPool(pool, () => {});
    expect(report).toEqual({
      pool,
      served: false,
      layers: 0,
      disks: 0,
      snapshots: 0,
      images: 0,
      problems: [],
      leftovers: [],
      incoming: [],
      foreign: [],
      repaired: [],
    });
    if (operation === 'copy-snapshot') unmount(pool);
    expect(await leaksOfStopped(directory)).toEqual([]);
    removeDirectory(directory);
  });
});
