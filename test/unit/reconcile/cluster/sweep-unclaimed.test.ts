import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { annotations, driverName, finalizers } from '../../../../src/api/names.ts';
import { diskImages, diskSnapshots } from '../../../../src/api/objects.ts';
import {
  namespaceType,
  persistentVolumeClaimType,
  persistentVolumeType,
  volumeSnapshotContentType,
} from '../../../../src/kube/kinds/core-kinds.ts';
import type { FakeRequest, Fault } from '../../../fakes/api-server.ts';
import { ClusterScene, kubernetesTypes, systemNamespace, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;

const graceMs = 600_000;
const uid = '2f5ab6b4-7a55-4f62-9d6b-0a4c5d5bd8a1';
const pvc = `pvc-${uid}`;
const snap = `snapshot-${uid}`;

beforeEach(async () => {
  scene = await ClusterScene.start();
  scene.addNode({ name: 'a' });
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

function volume(name = pvc, more: Record<string, string> = { [annotations.claim]: 'shop/data' }): void {
  const metadata = {
    name,
    namespace: systemNamespace,
    finalizers: [finalizers.disk],
    annotations: { [annotations.csiName]: name, ...more },
  };
  scene.create(diskImages, metadata, { size: '1Gi', nodeName: 'a', source: { type: 'blank' } });
}

function snapshot(name = snap, more: Record<string, string> = {}): void {
  const metadata = {
    name,
    namespace: systemNamespace,
    finalizers: [finalizers.snapshot],
    annotations: { [annotations.csiName]: name, ...more },
  };
  scene.create(diskSnapshots, metadata, { diskImageName: 'pvc-gone', nodeName: 'a' });
}

/** A claim has the uid of its object in the fake API server; volumes are named by it. */
const claim = (name = 'data') => scene.create(persistentVolumeClaimType, { name, namespace: 'shop' }, {}).metadata.uid;
const pv = (name = pvc, handle = name) =>
  scene.create(persistentVolumeType, { name }, { csi: { driver: driverName, volumeHandle: handle } });
const content = (name: string, spec: object, status?: object) => {
  scene.create(volumeSnapshotContentType, { name }, { driver: driverName, source: {}, volumeSnapshotRef: {}, ...spec });
  if (status) scene.patch(volumeSnapshotContentType, name, { status: { ...status } }, { subresource: 'status' });
};

const isThere = (name = pvc) => scene.find(diskImages, name) !== undefined;
const isTaken = (name = snap) => scene.find(diskSnapshots, name) !== undefined;
const claimedBy = (name = pvc) => scene.find(diskImages, name)?.metadata['annotations'] as Record<string, string>;
const deletions = () => scene.writes.filter(({ method }) => method === 'DELETE');
const eventsOf = (name: string, reason: string) =>
  scene.eventsOf(name).filter((event) => event.includes(` ${reason}: `));

describe('a volume that nobody came back for', () => {
  it('is deleted after the grace time, and an event tells', async () => {
    volume();
    await scene.elect();
    await scene.settle();
    await scene.pass(graceMs - 1000);
    expect([isThere(), deletions()]).toEqual([true, []]);
    await scene.pass(1000);
    await until(() => !isThere());
    await until(() => eventsOf(pvc, 'Swept').length === 1);
    expect(eventsOf(pvc, 'Swept')[0]).toMatch(/^Warning Swept: Nothing has referred to it for 600 s/);
  });

  it('is waited for as long as its claim is there, and from the end of that on', async () => {
    const made = claim();
    volume(`pvc-${made}`);
    await scene.elect();
    await scene.pass(3 * graceMs);
    expect(isThere(`pvc-${made}`)).toBe(true);
    scene.remove(persistentVolumeClaimType, 'data', 'shop');
    await scene.pass(graceMs - 1000);
    expect(isThere(`pvc-${made}`)).toBe(true);
    await scene.pass(2000);
    await until(() => !isThere(`pvc-${made}`));
  });

  it('is not the one of a claim that got the same name later', async () => {
    claim();
    volume();
    await scene.elect();
    await scene.settle();
    await scene.pass(graceMs);
    await until(() => !isThere());
  });

  it('has its whole time again after a restart, and after somebody came back', async () => {
    volume();
    await scene.elect();
    await scene.settle();
    await scene.pass(graceMs - 10_000);
    const made = claim('other');
    scene.patch(diskImages, pvc, {
      metadata: { annotations: { [annotations.claim]: 'shop/other', [annotations.csiName]: `pvc-${made}` } },
    });
    await scene.settle();
    scene.remove(persistentVolumeClaimType, 'other', 'shop');
    await scene.settle();
    await scene.pass(graceMs - 10_000);
    expect(isThere()).toBe(true);
    await scene.pass(20_000);
    await until(() => !isThere());
  });
});

describe('a volume that was used', () => {
  it.each([
    ['by a PersistentVolume', () => pv(), `PersistentVolume ${pvc}`, () => scene.remove(persistentVolumeType, pvc)],
    [
      'by a PersistentVolume of another name',
      () => pv('static', pvc),
      'PersistentVolume static',
      () => scene.remove(persistentVolumeType, 'static'),
    ],
    [
      'by a pod',
      () => scene.patch(diskImages, pvc, { status: { attached: true } }, { subresource: 'status' }),
      'node a',
      () => scene.patch(diskImages, pvc, { status: { attached: false } }, { subresource: 'status' }),
    ],
    [
      'by a snapshot',
      () =>
        scene.create(diskSnapshots, { name: 's', namespace: systemNamespace }, { diskImageName: pvc, nodeName: 'a' }),
      'DiskSnapshot lamina-system/s',
      () => scene.remove(diskSnapshots, 's'),
    ],
    [
      'by a clone',
      () =>
        scene.create(
          diskImages,
          { name: 'clone', namespace: systemNamespace },
          { size: '1Gi', nodeName: 'a', source: { type: 'diskImage', diskImage: { name: pvc } } },
        ),
      'DiskImage lamina-system/clone',
      () => scene.remove(diskImages, 'clone'),
    ],
  ])('%s once is never deleted, though nothing refers to it any more', async (_, use, user, leave) => {
    volume();
    await scene.elect();
    await scene.settle();
    use();
    await until(() => claimedBy()[annotations.claimedBy] === user);
    leave();
    await scene.pass(2 * graceMs);
    expect([isThere(), deletions()]).toEqual([true, []]);
    await until(() => eventsOf(pvc, 'Unclaimed').length === 1);
    expect(eventsOf(pvc, 'Unclaimed')[0]).toContain(`It is kept, as ${user} has used it; delete the DiskImage`);
    // Not by the next one that is elected, either.
    await scene.elect();
    await scene.pass(2 * graceMs);
    expect(isThere()).toBe(true);
  });

  it('is written down once, and by the first user', async () => {
    volume();
    pv();
    await scene.elect();
    await until(() => claimedBy()[annotations.claimedBy] !== undefined);
    await scene.settle();
    const before = scene.writes.length;
    pv('other', pvc);
    scene.remove(persistentVolumeType, pvc);
    await scene.elect();
    await scene.settle();
    expect(scene.writes).toHaveLength(before);
  });
});

describe('what is kept in every case', () => {
  it('is what was adopted, and an event tells that nothing refers to it', async () => {
    volume(pvc, { [annotations.claim]: 'shop/data', [annotations.adopted]: '2026-01-01T00:00:00Z' });
    snapshot(snap, { [annotations.adopted]: '2026-01-01T00:00:00Z' });
    await scene.elect();
    await scene.pass(3 * graceMs);
    expect([isThere(), isTaken(), deletions()]).toEqual([true, true, []]);
    await until(() => eventsOf(pvc, 'Unclaimed').length === 1 && eventsOf(snap, 'Unclaimed').length === 1);
    await scene.pass(3 * graceMs);
    expect(eventsOf(pvc, 'Unclaimed')).toHaveLength(1);
  });

  it('is what does not say for which claim it was made', async () => {
    volume(pvc, {});
    await scene.elect();
    await scene.pass(2 * graceMs);
    expect(isThere()).toBe(true);
    expect(eventsOf(pvc, 'Unclaimed')).toHaveLength(1);
  });

  it('is what CSI has not asked for, or what is in another namespace', async () => {
    const spec = { size: '1Gi', nodeName: 'a', source: { type: 'blank' } };
    const csi = { [annotations.csiName]: pvc, [annotations.claim]: 'shop/data' };
    scene.create(
      diskImages,
      { name: 'golden', namespace: systemNamespace, annotations: { [annotations.claim]: 'shop/data' } },
      spec,
    );
    scene.create(diskImages, { name: pvc, namespace: 'media', annotations: csi }, spec);
    await scene.elect();
    await scene.pass(2 * graceMs);
    expect(deletions()).toEqual([]);
    expect(scene.server.objects.list(diskImages)).toHaveLength(2);
  });

  it('is what could belong to a PersistentVolume that is not understood', async () => {
    volume();
    scene.create(persistentVolumeType, { name: 'odd' }, { csi: 7 });
    await scene.elect();
    await scene.pass(2 * graceMs);
    expect(deletions()).toEqual([]);
  });
});

describe('a doubt', () => {
  const isListOf =
    (plural: string) =>
    ({ path, query }: FakeRequest) =>
      path.endsWith(`/${plural}`) && !query.has('watch');

  it('is a cache that is not complete: then nothing is deleted', async () => {
    volume();
    for (const { plural } of [persistentVolumeType, persistentVolumeClaimType]) {
      scene.server.inject({
        fault: { kind: 'status', status: 403, reason: 'Forbidden' },
        match: isListOf(plural),
        times: 1000,
      });
    }
    await scene.elect();
    for (let i = 0; i < 60; i++) {
      await scene.settle();
      scene.clock.advance(20_000);
    }
    expect(deletions()).toEqual([]);
    expect(isThere()).toBe(true);
  });

  it.each<[string, Fault]>([
    ['does not answer', { kind: 'drop' }],
    ['fails', { kind: 'status', status: 500 }],
    ['refuses', { kind: 'status', status: 403, reason: 'Forbidden' }],
    ['answers nonsense', { kind: 'garbage', text: '<html>' }],
    ['answers with something else', { kind: 'garbage', text: '{"kind":"Status"}' }],
  ])('is an API server that %s when it is asked in the end', async (_, fault) => {
    volume();
    await scene.elect();
    await scene.settle();
    const isLastQuestion = (request: FakeRequest) => request.method === 'GET' && isListOf('persistentvolumes')(request);
    await scene.pass(graceMs - 1000);
    scene.server.inject({ fault, match: isLastQuestion, times: 1000 });
    await scene.pass(1000);
    await until(() => scene.server.requests.filter(isLastQuestion).length >= 2);
    expect([isThere(), deletions()]).toEqual([true, []]);
    scene.server.heal();
    await until(() => {
      const next = scene.clock.pending.find((ms) => ms < 10_000);
      if (next !== undefined) scene.clock.advance(next);
      return !isThere();
    });
  });

  it('is what the API server has and the cache has not', async () => {
    volume();
    await scene.elect();
    await scene.settle();
    await scene.pass(graceMs - 1000);
    const gate = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise }, match: isListOf('persistentvolumes') });
    scene.clock.advance(1000);
    await until(() => scene.server.requests.filter(isListOf('persistentvolumes')).length >= 2);
    scene.server.muteWatches();
    pv();
    gate.resolve();
    await scene.settle();
    expect([isThere(), deletions()]).toEqual([true, []]);
  });

  it('is an object that changes after it was looked at', async () => {
    volume();
    await scene.elect();
    await scene.settle();
    await scene.pass(graceMs - 1000);
    const gate = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise }, match: ({ method }) => method === 'DELETE' });
    scene.clock.advance(1000);
    await until(() => deletions().length === 1);
    scene.patch(diskImages, pvc, { status: { attached: true } }, { subresource: 'status' });
    gate.resolve();
    await until(() => claimedBy()[annotations.claimedBy] === 'node a');
    expect(scene.find(diskImages, pvc)?.metadata.deletionTimestamp).toBeUndefined();
  });
});

describe('a snapshot', () => {
  it('that nobody came back for is deleted after the grace time', async () => {
    snapshot();
    await scene.elect();
    await scene.settle();
    // It is known by then that there are no VolumeSnapshotContents.
    await scene.pass(60_000);
    await scene.pass(graceMs);
    await until(() => !isTaken());
    await until(() => eventsOf(snap, 'Swept').length === 1);
  });

  it('is waited for as long as what it was asked for is there', async () => {
    content('snapcontent-1', { volumeSnapshotRef: { namespace: 'shop', name: 'x', uid } });
    snapshot();
    await scene.elect();
    await scene.pass(2 * graceMs);
    expect(isTaken()).toBe(true);
    scene.remove(volumeSnapshotContentType, 'snapcontent-1');
    await scene.pass(graceMs + 1000);
    await until(() => !isTaken());
  });

  it.each([
    ['status', {}, { snapshotHandle: snap }],
    ['spec', { source: { snapshotHandle: snap } }, undefined],
  ])('that a VolumeSnapshotContent names in its %s once is never deleted', async (_, spec, status) => {
    snapshot();
    await scene.elect();
    await scene.settle();
    content('any', spec, status);
    await until(() => {
      const given = scene.find(diskSnapshots, snap)?.metadata['annotations'] as Record<string, string>;
      return given[annotations.claimedBy] === 'VolumeSnapshotContent any';
    });
    scene.remove(volumeSnapshotContentType, 'any');
    await scene.pass(2 * graceMs);
    expect([isTaken(), deletions()]).toEqual([true, []]);
  });

  it('of a name that tells nothing is kept', async () => {
    snapshot('backup');
    await scene.elect();
    await scene.pass(2 * graceMs);
    expect(isTaken('backup')).toBe(true);
  });
});

describe('where VolumeSnapshotContents are not installed', () => {
  it('snapshots are left alone, and volumes are swept as ever', async () => {
    await scene.end();
    scene = await ClusterScene.start(kubernetesTypes.filter((type) => type !== volumeSnapshotContentType));
    scene.addNode({ name: 'a' });
    scene.create(namespaceType, { name: systemNamespace }, {});
    snapshot();
    volume();
    await scene.elect();
    for (let i = 0; i < 70; i++) {
      await scene.settle();
      scene.clock.advance(10_000);
      scene.server.endWatches();
    }
    await until(() => !isThere());
    expect(isTaken()).toBe(true);
  });

  it('DiskImages are placed, as nothing else waits for them', async () => {
    await scene.end();
    const types = kubernetesTypes.filter((type) => type !== volumeSnapshotContentType);
    scene = await ClusterScene.start(types);
    scene.addNode({ name: 'a' });
    scene.create(namespaceType, { name: systemNamespace }, {});
    snapshot();
    await scene.elect();
    scene.create(diskImages, { name: 'new', namespace: 'media' }, { size: '1Gi', source: { type: 'blank' } });
    const placed = () =>
      (scene.find(diskImages, 'new', 'media')?.['spec'] as { nodeName?: string } | undefined)?.nodeName;
    await until(() => placed() === 'a');
  });
});
