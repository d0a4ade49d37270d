import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finalizers } from '../../../../src/api/names.ts';
import { diskImages, diskPools, diskSnapshots } from '../../../../src/api/objects.ts';
import { nodeType } from '../../../../src/kube/kinds/core-kinds.ts';
import type { FakeType } from '../../../fakes/api-objects.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, systemNamespace, until } from '../../../fakes/cluster-scene.ts';

let scene: ClusterScene;
let a: FakeClusterNode;

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a' });
  scene.addNode({ name: 'b' });
});

afterEach(async () => {
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const uid = '2f5ab6b4-7a55-4f62-9d6b-0a4c5d5bd8a1';
const volume = (name: string, nodeName: string) =>
  scene.create(
    diskImages,
    {
      name,
      namespace: systemNamespace,
      finalizers: [finalizers.disk],
      annotations: { 'lamina.storage/csi-name': `pvc-${uid}`, 'lamina.storage/claim': 'shop/data' },
    },
    { size: '1Gi', nodeName },
  );
const snapshot = (name: string, nodeName: string) =>
  scene.create(
    diskSnapshots,
    { name, namespace: systemNamespace, finalizers: [finalizers.snapshot] },
    { diskImageName: 'pvc-1', nodeName },
  );

function reasonsOf(type: FakeType, name: string): Record<string, string> {
  const status = scene.find(type, name)?.['status'] as { conditions?: { type: string; reason: string }[] } | undefined;
  return Object.fromEntries((status?.conditions ?? []).map((one) => [one.type, one.reason]));
}

const isReady = (type: FakeType, name: string) => ['Made', 'Taken'].includes(reasonsOf(type, name)['Ready'] ?? '');

async function makeAll(): Promise<void> {
  volume('pvc-1', 'a');
  volume('pvc-2', 'b');
  snapshot('snap-1', 'a');
  await until(() => isReady(diskImages, 'pvc-1') && isReady(diskImages, 'pvc-2') && isReady(diskSnapshots, 'snap-1'));
}

describe('the objects of a node that is gone', () => {
  beforeEach(makeAll);

  it('say so, and those of others stay as they are', async () => {
    await scene.elect();
    await scene.settle();
    const isOfNodes = ({ body }: { body: unknown }) => JSON.stringify(body).includes('NodeGone');
    expect(scene.writes.filter(isOfNodes)).toEqual([]);
    a.vanish();
    await until(() => reasonsOf(diskPools, 'default.a')['Ready'] === 'NodeGone');
    expect(reasonsOf(diskImages, 'pvc-1')).toMatchObject({ Ready: 'NodeGone', Healthy: 'NodeGone', Sized: 'AsWanted' });
    expect(reasonsOf(diskSnapshots, 'snap-1')).toEqual({ Ready: 'NodeGone' });
    expect(isReady(diskImages, 'pvc-2')).toBe(true);
    await until(() => scene.eventsOf('pvc-1').length === 1 && scene.eventsOf('data').length === 1);
    expect(scene.eventsOf('data')[0]).toMatch(/^Warning NodeGone: There is no node a in the cluster/);
    await scene.settle();
    const before = scene.writes.length;
    await scene.elect();
    await scene.settle();
    expect(scene.writes).toHaveLength(before);
    expect(scene.eventsOf('pvc-1')).toHaveLength(1);
  });

  it('that were declared for a node which never was say what to do', async () => {
    volume('typo', 'wroker-a');
    await scene.elect();
    await until(() => reasonsOf(diskImages, 'typo')['Ready'] === 'NodeGone');
    expect(JSON.stringify(scene.find(diskImages, 'typo'))).toContain('declare it anew for a node that there is');
  });

  it('are in use no more, so that their volumes can be deleted', async () => {
    scene.patch(diskImages, 'pvc-1', { status: { attached: true } }, { subresource: 'status' });
    await scene.elect();
    const disks = await scene.service();
    a.vanish();
    await until(() => reasonsOf(diskImages, 'pvc-1')['Ready'] === 'NodeGone');
    await disks.deleteDisk('pvc-1');
    expect(scene.find(diskImages, 'pvc-1')).toBeUndefined();
  });

  it('go when they are deleted, as nobody else can let them go', async () => {
    await scene.elect();
    scene.patch(diskImages, 'pvc-1', { metadata: { finalizers: [finalizers.disk, 'others.example.org/x'] } });
    a.vanish();
    scene.remove(diskImages, 'pvc-1');
    scene.remove(diskSnapshots, 'snap-1');
    await until(() => scene.find(diskSnapshots, 'snap-1') === undefined);
    await until(() => scene.find(diskImages, 'pvc-1')?.metadata.finalizers?.length === 1);
    expect(scene.find(diskImages, 'pvc-1')?.metadata.finalizers).toEqual(['others.example.org/x']);
    await until(() => scene.eventsOf('pvc-1').some((event) => event.startsWith('Warning Released')));
  });

  it('that were deleted before it went, go as well', async () => {
    await scene.elect();
    a.reply = () => 'nothing';
    scene.remove(diskImages, 'pvc-1');
    await scene.settle();
    expect(scene.find(diskImages, 'pvc-1')).toBeDefined();
    a.vanish();
    await until(() => scene.find(diskImages, 'pvc-1') === undefined);
  });

  it('are not touched while the node is only silent', async () => {
    await scene.elect();
    a.silence();
    a.setNodeReady('Unknown');
    scene.remove(diskImages, 'pvc-1');
    await scene.settle();
    await scene.pass(3_600_000);
    expect(scene.find(diskImages, 'pvc-1')?.metadata.finalizers).toEqual([finalizers.disk]);
    expect(reasonsOf(diskPools, 'default.a')['Ready']).toBe('Serving');
  });

  it('are not touched where the API server still has the node, whatever the cache says', async () => {
    const caches = scene.caches();
    await scene.elect(caches);
    await scene.settle();
    const isOfNode = ({ method, path }: { method: string; path: string }) =>
      method === 'GET' && path.endsWith('/nodes/a');
    const gate = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise }, match: isOfNode });
    a.vanish();
    await until(() => scene.server.requests.some(isOfNode));
    // It registers again at that moment.
    scene.server.muteWatches();
    scene.create(nodeType, { name: 'a' }, {});
    gate.resolve();
    await until(() => scene.clock.pending.includes(5000));
    expect(caches.nodes.cache.has('a')).toBe(false);
    expect(isReady(diskImages, 'pvc-1')).toBe(true);
  });

  it('are not touched where the API server cannot say', async () => {
    await scene.elect();
    await scene.settle();
    const isOfNode = ({ method, path }: { method: string; path: string }) =>
      method === 'GET' && path.endsWith('/nodes/a');
    for (const fault of [
      { kind: 'drop' },
      { kind: 'status', status: 403, reason: 'Forbidden' },
      { kind: 'status', status: 404, reason: 'NotFound', details: { name: 'other' } },
      { kind: 'garbage', text: '<html>404 not found</html>' },
      { kind: 'status', status: 500 },
    ] as const)
      scene.server.inject({ fault, match: isOfNode });
    a.vanish();
    await until(() => scene.server.requests.filter(isOfNode).length >= 2);
    for (let i = 0; i < 4; i++) {
      expect(isReady(diskImages, 'pvc-1')).toBe(true);
      await until(() => scene.clock.pending.some((ms) => ms < 30_000));
      scene.clock.advance(scene.clock.pending[0] ?? 0);
      await scene.settle();
    }
    await until(() => {
      const next = scene.clock.pending.find((ms) => ms < 10_000);
      if (next !== undefined) scene.clock.advance(next);
      return reasonsOf(diskImages, 'pvc-1')['Ready'] === 'NodeGone';
    });
  });
});

describe('an object', () => {
  it('that names a node which there never was says so', async () => {
    volume('pvc-1', 'worker-9');
    await scene.elect();
    await until(() => reasonsOf(diskImages, 'pvc-1')['Ready'] === 'NodeGone');
  });

  it('that fails to be told keeps no other from being told', async () => {
    await makeAll();
    volume('pvc-3', 'a');
    await until(() => isReady(diskImages, 'pvc-3'));
    const isFirst = ({ method, path }: { method: string; path: string }) =>
      method === 'PATCH' && path.includes('pvc-1');
    scene.server.inject({ fault: { kind: 'status', status: 500 }, match: isFirst, times: 3 });
    a.vanish();
    await scene.elect();
    await until(() => reasonsOf(diskImages, 'pvc-3')['Ready'] === 'NodeGone');
    await until(() => {
      const next = scene.clock.pending.find((ms) => ms < 10_000);
      if (next !== undefined) scene.clock.advance(next);
      return reasonsOf(diskImages, 'pvc-1')['Ready'] === 'NodeGone';
    });
  });
});

describe('the DiskPool of a node that is gone', () => {
  it('goes after a while when nothing refers to it any more', async () => {
    await makeAll();
    a.vanish();
    await scene.elect();
    await until(() => reasonsOf(diskPools, 'default.a')['Ready'] === 'NodeGone');
    await scene.settle();
    await scene.pass(700_000);
    expect(scene.find(diskPools, 'default.a')).toBeDefined();
    scene.remove(diskImages, 'pvc-1');
    scene.remove(diskSnapshots, 'snap-1');
    await until(() => scene.find(diskPools, 'default.a') === undefined);
    expect(scene.find(diskPools, 'default.b')).toBeDefined();
  });

  it('is not removed before its time, and stays where the node comes back', async () => {
    a.vanish();
    await scene.elect();
    await until(() => scene.clock.pending.includes(600_000));
    await scene.pass(599_000);
    scene.create(nodeType, { name: 'a' }, {});
    await scene.settle();
    await scene.pass(3_600_000);
    expect(scene.find(diskPools, 'default.a')).toBeDefined();
    scene.remove(nodeType, 'a');
    await until(() => scene.clock.pending.includes(600_000));
    await scene.pass(600_000);
    await until(() => scene.find(diskPools, 'default.a') === undefined);
  });
});
