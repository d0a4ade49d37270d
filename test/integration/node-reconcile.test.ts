import { readdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findCondition } from '../../src/kube/conditions.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { LaminaError } from '../../src/lib/errors.ts';
import { NodePools } from '../../src/reconcile/node/node-pools.ts';
import { findOrphans } from '../../src/reconcile/node/orphans.ts';
import { diskIdOf } from '../../src/store/ids.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { NodeScene, systemNamespace } from '../node-scene.ts';

let directory: string;
let scene: NodeScene;

beforeEach(async () => {
  directory = temporaryDirectory();
  scene = await NodeScene.start(directory);
});
afterEach(async () => {
  await scene.stop();
  removeDirectory(directory);
});

const diskFiles = () => readdirSync(path.join(directory, 'disks'));
const conditionsOf = async (name: string) => {
  const conditions = (await scene.image(name))?.status.conditions ?? [];
  return Object.fromEntries(conditions.map(({ type, status, reason }) => [type, `${status} ${reason}`]));
};

describe('a DiskImage of this node', () => {
  it('becomes a disk, and says so', async () => {
    scene.declareImage('scratch');
    expect(await scene.reconcileImage('scratch')).toBe('done');
    const image = await scene.image('scratch');
    expect(image?.metadata.finalizers).toEqual(['lamina.storage/disk']);
    expect(image?.status).toMatchObject({ virtualSize: 64 * MiB, format: 'qcow2', attached: false, chainDepth: 1 });
    expect(diskFiles()).toEqual([`${image?.status.diskId}.json`]);
    expect(await conditionsOf('scratch')).toEqual({
      Placed: 'True NodeGiven',
      Ready: 'True Made',
      Sized: 'True AsWanted',
      Healthy: 'True NothingFound',
    });
    expect(scene.events.map(({ reason }) => reason)).toEqual(['Made']);
  });

  it('is written once: where nothing changes, nothing is written', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    scene.takeWrites();
    await scene.reconcileImage('scratch');
    expect(scene.takeWrites()).toBe(0);
  });

  it.each(['make-image/finalizer-added', 'make-image/disk-made', 'make-image/status-written'])(
    'is made once where the node plugin dies after %s',
    async (step) => {
      scene.declareImage('scratch');
      scene.dieAt = step;
      await expect(scene.reconcileImage('scratch')).rejects.toThrow('killed');
      scene.dieAt = '';
      await scene.reconcileImage('scratch');
      expect((await conditionsOf('scratch'))['Ready']).toBe('True Made');
      expect(diskFiles()).toHaveLength(1);
      expect(readdirSync(path.join(directory, 'layers'))).toHaveLength(1);
    },
  );

  it('that CSI asked for has the name of the volume in the pool', async () => {
    const metadata = { annotations: { 'lamina.storage/csi-name': 'pvc-7' } };
    scene.declareImage('pvc-7', {}, metadata, systemNamespace);
    await scene.reconcileImage('pvc-7', systemNamespace);
    expect(scene.detached.pool.disk('pvc-7').name).toBe('pvc-7');
  });

  it('that was made and is not there any more is lost, and not made again', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    await scene.detached.disks.delete((await scene.image('scratch'))?.status.diskId ?? '');
    await scene.reconcileImage('scratch');
    expect((await conditionsOf('scratch'))['Ready']).toBe('False Lost');
    expect(diskFiles()).toEqual([]);
    expect(scene.events.at(-1)).toMatchObject({ type: 'Warning', reason: 'Lost' });
  });

  it('that was declared for a disk which is gone is lost, and no other is made', async () => {
    scene.declareImage('scratch', {}, { annotations: { 'lamina.storage/adopted': '2026-01-01T00:00:00Z' } });
    await scene.reconcileImage('scratch');
    expect((await conditionsOf('scratch'))['Ready']).toBe('False Lost');
    expect(diskFiles()).toEqual([]);
  });

  it('finds the disk of an earlier object of its name, with what is in it', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    const { head } = [...scene.detached.pool.disks.values()][0] ?? {};
    await scene.context.imageClient.mergePatch(
      { namespace: 'media', name: 'scratch' },
      { metadata: { finalizers: null } },
    );
    await scene.context.imageClient.removeIfPresent({ namespace: 'media', name: 'scratch' });
    await scene.reconcileImage('scratch');
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    expect((await conditionsOf('scratch'))['Ready']).toBe('True Made');
    expect([...scene.detached.pool.disks.values()].map((disk) => disk.head)).toEqual([head]);
  });

  it('that found the disk of an earlier object takes it along when it goes', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    await scene.context.imageClient.mergePatch(
      { namespace: 'media', name: 'scratch' },
      { metadata: { finalizers: null } },
    );
    await scene.context.imageClient.removeIfPresent({ namespace: 'media', name: 'scratch' });
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    await scene.context.imageClient.removeIfPresent({ namespace: 'media', name: 'scratch' });
    await scene.reconcileImage('scratch');
    expect(await scene.image('scratch')).toBeUndefined();
    expect(diskFiles()).toEqual([]);
  });

  it('that is called by the id of another one’s disk neither gets nor deletes it', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    const id = (await scene.image('scratch'))?.status.diskId ?? '';
    const finalized = { finalizers: ['lamina.storage/disk'] };
    scene.declareImage(id, {}, finalized, systemNamespace);
    await scene.reconcileImage(id, systemNamespace);
    const other = await scene.image(id, systemNamespace);
    expect(findCondition(other?.status.conditions ?? [], 'Ready')).toMatchObject({
      status: 'False',
      reason: 'NameTaken',
      message: expect.stringContaining('media/scratch'),
    });
    expect(other?.status.diskId).toBeUndefined();
    await scene.context.imageClient.removeIfPresent({ namespace: systemNamespace, name: id });
    await scene.reconcileImage(id, systemNamespace);
    expect(await scene.image(id, systemNamespace)).toBeUndefined();
    expect(scene.events.at(-1)).toMatchObject({ type: 'Warning', reason: 'Released' });
    expect(diskFiles()).toEqual([`${id}.json`]);
  });

  it('that CSI asked for by a name which is hashed goes with its disk, its annotation lost or not', async () => {
    for (const annotations of [{ 'lamina.storage/csi-name': 'Odd/Name' }, {}]) {
      const id = diskIdOf('Odd/Name');
      scene.declareImage(id, {}, { annotations: { 'lamina.storage/csi-name': 'Odd/Name' } }, systemNamespace);
      await scene.reconcileImage(id, systemNamespace);
      expect(scene.detached.pool.disk(id).name).toBe('Odd/Name');
      await scene.context.imageClient.mergePatch(
        { namespace: systemNamespace, name: id },
        { metadata: { annotations } },
      );
      await scene.context.imageClient.removeIfPresent({ namespace: systemNamespace, name: id });
      await scene.reconcileImage(id, systemNamespace);
      expect(diskFiles()).toEqual([]);
    }
  });

  it('grows, and says what keeps it from growing', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    await scene.context.imageClient.mergePatch({ namespace: 'media', name: 'scratch' }, { spec: { size: '96Mi' } });
    await scene.reconcileImage('scratch');
    expect((await scene.image('scratch'))?.status.virtualSize).toBe(96 * MiB);
    expect(scene.events.at(-1)).toMatchObject({ reason: 'Grown', note: 'The disk has grown from 64Mi to 96Mi.' });
    await scene.context.imageClient.mergePatch({ namespace: 'media', name: 'scratch' }, { spec: { size: '17Ti' } });
    await scene.reconcileImage('scratch');
    expect(await conditionsOf('scratch')).toMatchObject({ Ready: 'True Made', Sized: 'False SizeOutOfRange' });
    expect((await scene.image('scratch'))?.status.virtualSize).toBe(96 * MiB);
  });

  it('goes with its object', async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    await scene.context.imageClient.removeIfPresent({ namespace: 'media', name: 'scratch' });
    await scene.reconcileImage('scratch');
    expect(await scene.image('scratch')).toBeUndefined();
    expect(diskFiles()).toEqual([]);
  });

  it.each(['remove-image/disk-removed', 'remove-image/finalizer-removed'])(
    'goes as well where the node plugin dies after %s',
    async (step) => {
      scene.declareImage('scratch');
      await scene.reconcileImage('scratch');
      await scene.context.imageClient.removeIfPresent({ namespace: 'media', name: 'scratch' });
      scene.dieAt = step;
      await expect(scene.reconcileImage('scratch')).rejects.toThrow('killed');
      scene.dieAt = '';
      await scene.reconcileImage('scratch');
      expect(await scene.image('scratch')).toBeUndefined();
      expect(diskFiles()).toEqual([]);
    },
  );

  it('waits for a source that is not there, and starts from it when it is', async () => {
    const source = { type: 'diskImage', diskImage: { name: 'scratch' } };
    scene.declareImage('copy', { size: undefined, source });
    expect(await scene.reconcileImage('copy')).toMatchObject({ againAfterMs: expect.any(Number) });
    expect((await conditionsOf('copy'))['Ready']).toBe('False WaitingForSource');
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
    await scene.reconcileImage('copy');
    expect((await scene.image('copy'))?.status).toMatchObject({ virtualSize: 64 * MiB, chainDepth: 2 });
  });

  it('in a pool that this node does not have says so', async () => {
    scene.declareImage('scratch', { pool: 'fast' });
    await scene.reconcileImage('scratch');
    expect(await conditionsOf('scratch')).toMatchObject({
      Placed: 'False PoolNotFound',
      Ready: 'False WaitingForNode',
    });
  });

  it('is left alone while its pool is not served', async () => {
    scene.declareImage('scratch');
    scene.state = { kind: 'failed', error: new LaminaError('pool-foreign', 'not ours') };
    scene.takeWrites();
    expect(await scene.reconcileImage('scratch')).toBe('done');
    expect(scene.takeWrites()).toBe(0);
    expect(diskFiles()).toEqual([]);
  });

  it('that has no room says so in a condition that can be turned back into the error', async () => {
    await scene.stop();
    scene = await NodeScene.start(directory, { overcommit: 1e-9 });
    scene.declareImage('scratch');
    expect(await scene.reconcileImage('scratch')).toMatchObject({ againAfterMs: expect.any(Number) });
    expect((await conditionsOf('scratch'))['Ready']).toBe('False PoolFull');
    expect(scene.events.at(-1)).toMatchObject({ type: 'Warning', reason: 'PoolFull', action: 'Make' });
  });

  it('is not reported on where the API server does not answer, but later', async () => {
    scene.declareImage('scratch');
    const match = ({ method }: { method: string }) => method === 'PATCH';
    scene.server.inject({ fault: { kind: 'status', status: 503 }, match });
    await expect(scene.reconcileImage('scratch')).rejects.toMatchObject({ code: 'api-unavailable' });
    await scene.reconcileImage('scratch');
    expect((await conditionsOf('scratch'))['Ready']).toBe('True Made');
  });
});

describe('a DiskSnapshot of this node', () => {
  beforeEach(async () => {
    scene.declareImage('scratch');
    await scene.reconcileImage('scratch');
  });

  const ready = async (name: string) => {
    const { status, reason } = findCondition((await scene.snapshot(name))?.status.conditions ?? [], 'Ready') ?? {};
    return `${status} ${reason}`;
  };

  it('is taken once, and says so', async () => {
    scene.declareSnapshot('snap', 'scratch');
    expect(await scene.reconcileSnapshot('snap')).toBe('done');
    expect((await scene.snapshot('snap'))?.status).toMatchObject({ restoreSize: 64 * MiB });
    scene.takeWrites();
    await scene.reconcileSnapshot('snap');
    expect(scene.takeWrites()).toBe(0);
    expect(await ready('snap')).toBe('True Taken');
  });

  it.each(['make-snapshot/finalizer-added', 'make-snapshot/snapshot-made', 'make-snapshot/status-written'])(
    'is taken once where the node plugin dies after %s',
    async (step) => {
      scene.declareSnapshot('snap', 'scratch');
      scene.dieAt = step;
      await expect(scene.reconcileSnapshot('snap')).rejects.toThrow('killed');
      scene.dieAt = '';
      await scene.reconcileSnapshot('snap');
      expect(await ready('snap')).toBe('True Taken');
      expect(scene.detached.pool.snapshots.size).toBe(1);
    },
  );

  it('that was made anew for another disk neither gets nor deletes the one of its name', async () => {
    const snapshots = scene.context.snapshotClient;
    const at = { namespace: 'media', name: 'snap' };
    scene.declareSnapshot('snap', 'scratch');
    await scene.reconcileSnapshot('snap');
    await snapshots.mergePatch(at, { metadata: { finalizers: null } });
    await snapshots.removeIfPresent(at);
    scene.declareImage('other');
    await scene.reconcileImage('other');
    scene.declareSnapshot('snap', 'other');
    await scene.reconcileSnapshot('snap');
    expect(await ready('snap')).toBe('False NameTaken');
    await snapshots.mergePatch(at, { metadata: { finalizers: ['lamina.storage/snapshot'] } });
    await snapshots.removeIfPresent(at);
    await scene.reconcileSnapshot('snap');
    expect(await scene.snapshot('snap')).toBeUndefined();
    expect(scene.detached.pool.snapshots.size).toBe(1);
    // Made anew for the disk that it is of, it is that object's, and goes with it.
    scene.declareSnapshot('snap', 'scratch');
    await scene.reconcileSnapshot('snap');
    expect(await ready('snap')).toBe('True Taken');
    await snapshots.removeIfPresent(at);
    await scene.reconcileSnapshot('snap');
    expect(scene.detached.pool.snapshots.size).toBe(0);
  });

  it('waits for a disk that is not there', async () => {
    scene.declareSnapshot('snap', 'other');
    await scene.reconcileSnapshot('snap');
    expect(await ready('snap')).toBe('False WaitingForDisk');
  });

  it('outlives its disk, and goes with its object', async () => {
    scene.declareSnapshot('snap', 'scratch');
    await scene.reconcileSnapshot('snap');
    await scene.context.imageClient.removeIfPresent({ namespace: 'media', name: 'scratch' });
    await scene.reconcileImage('scratch');
    await scene.reconcileSnapshot('snap');
    expect(await ready('snap')).toBe('True Taken');
    await scene.context.snapshotClient.removeIfPresent({ namespace: 'media', name: 'snap' });
    await scene.reconcileSnapshot('snap');
    expect(await scene.snapshot('snap')).toBeUndefined();
    expect(readdirSync(path.join(directory, 'layers'))).toEqual([]);
  });

  it('in a pool that the node is not told to have any more stays until that is back, as a DiskImage does', async () => {
    scene.declareSnapshot('snap', 'scratch');
    await scene.reconcileSnapshot('snap');
    const { context } = scene;
    const unused = async (): Promise<never> => {
      throw new Error('there is no pool');
    };
    const { clock } = scene;
    const options = { open: unused, confirm: unused, onChange: () => {}, clock, logger: silentLogger };
    scene.context = { ...context, pools: new NodePools({ ...options, places: [] }) };
    await scene.context.snapshotClient.removeIfPresent({ namespace: 'media', name: 'snap' });
    await scene.reconcileSnapshot('snap');
    const { conditions = [] } = (await scene.snapshot('snap'))?.status ?? {};
    expect(findCondition(conditions, 'Ready')).toMatchObject({
      reason: 'Deleting',
      message: 'The snapshot is deleted as soon as node worker-1 serves its pool default again.',
    });
    scene.context = context;
    await scene.reconcileSnapshot('snap');
    expect(await scene.snapshot('snap')).toBeUndefined();
    expect(scene.detached.pool.snapshots.size).toBe(0);
  });

  it('that was taken and is not there any more is lost, and not taken again', async () => {
    scene.declareSnapshot('snap', 'scratch');
    await scene.reconcileSnapshot('snap');
    await scene.detached.disks.deleteSnapshot((await scene.snapshot('snap'))?.status.snapshotId ?? '');
    await scene.reconcileSnapshot('snap');
    expect(await ready('snap')).toBe('False Lost');
    expect(scene.detached.pool.snapshots.size).toBe(0);
  });
});

describe('what a pool holds without an object', () => {
  it('is listed with all that is needed to declare it again, and since when', async () => {
    scene.declareImage('scratch', { format: 'raw', preallocation: 'falloc' });
    await scene.reconcileImage('scratch');
    scene.declareSnapshot('snap', 'scratch');
    await scene.reconcileSnapshot('snap');
    expect(findOrphans(scene.detached.pool, scene.context, undefined).count).toBe(0);
    scene.images.remove('media/scratch');
    scene.snapshots.remove('media/snap');
    const { count, listed } = findOrphans(scene.detached.pool, scene.context, undefined);
    expect(count).toBe(2);
    expect(listed).toMatchObject([
      { kind: 'disk', name: 'media/scratch', size: '64Mi', format: 'raw', preallocation: 'falloc' },
      { kind: 'snapshot', name: 'media/snap', size: '64Mi' },
    ]);
  });
});
