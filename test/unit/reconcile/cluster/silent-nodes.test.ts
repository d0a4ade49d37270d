import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeLeaseLabels, nodeLeaseName } from '../../../../src/api/names.ts';
import { diskImages, diskPools } from '../../../../src/api/objects.ts';
import { nodeType } from '../../../../src/kube/kinds/core-kinds.ts';
import { leaseType } from '../../../../src/kube/election/lease.ts';
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

const minute = 60_000;
/** By the clocks of the nodes, which are years off. */
let beats = 0;
const renewTime = () => new Date(Date.UTC(1999, 0, 1) + beats++ * minute).toISOString().replace('Z', '000Z');

const firstBeat = (node: string) =>
  scene.create(
    leaseType,
    { name: nodeLeaseName(node), namespace: systemNamespace, labels: nodeLeaseLabels },
    { holderIdentity: node, leaseDurationSeconds: 240, renewTime: renewTime() },
  );
const beat = (node: string) => scene.patch(leaseType, nodeLeaseName(node), { spec: { renewTime: renewTime() } });

const readyOf = (node: string) => {
  const { conditions = [] } = (scene.find(diskPools, `default.${node}`)?.['status'] ?? {}) as {
    conditions?: { type: string; status: string; reason: string; message: string }[];
  };
  return conditions.find(({ type }) => type === 'Ready');
};
const isSilent = (node: string) => readyOf(node)?.reason === 'NodeSilent';
/** The plugin says that all is well, as it does where it finds something else. */
const reportServing = () =>
  a.reportPool({
    conditions: [
      { type: 'Ready', status: 'True', reason: 'Serving', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' },
    ],
  });

/** Minutes in which only some nodes renew their leases. */
async function passMinutes(count: number, ...alive: string[]): Promise<void> {
  for (let i = 0; i < count; i++) {
    alive.forEach(beat);
    await scene.pass(minute);
  }
}

describe('a node whose plugin renews its lease', () => {
  beforeEach(async () => {
    firstBeat('a');
    firstBeat('b');
    await scene.elect();
    await scene.settle();
  });

  it('is left alone, and nothing is written', async () => {
    const before = scene.writes.length;
    await passMinutes(12, 'a', 'b');
    expect(scene.writes).toHaveLength(before);
  });

  it('is silent when it has not for four minutes, with since when and what to look at; others are not', async () => {
    await passMinutes(3, 'b');
    expect(readyOf('a')).toMatchObject({ status: 'True' });
    await passMinutes(2, 'b');
    await until(() => isSilent('a'));
    expect(readyOf('a')).toMatchObject({ status: 'Unknown' });
    // When it was seen last by the clock of the controller.
    expect(readyOf('a')?.message).toContain('on node a since 2026-01-01T00:00:00Z');
    expect(readyOf('a')?.message).toContain('get pods -o wide --field-selector spec.nodeName=a');
    expect(readyOf('b')).toMatchObject({ status: 'True' });
    await until(() => scene.eventsOf('default.a').length === 1);
    expect(scene.eventsOf('default.a')[0]).toMatch(/^Warning NodeSilent: Nothing was heard/);
    await passMinutes(10, 'b');
    expect(scene.eventsOf('default.a')).toHaveLength(1);
  });

  it('gets no new disks while it is silent', async () => {
    a.setSpace('900Gi', '900Gi');
    await passMinutes(5, 'b');
    await until(() => isSilent('a'));
    scene.create(diskImages, { name: 'new', namespace: 'media' }, { size: '1Gi', source: { type: 'blank' } });
    const nodeOf = () =>
      (scene.find(diskImages, 'new', 'media')?.['spec'] as { nodeName?: string } | undefined)?.nodeName;
    await until(() => nodeOf() !== undefined);
    expect(nodeOf()).toBe('b');
  });

  it('is well again when the plugin says so, and silent again when it stops anew', async () => {
    await passMinutes(5, 'b');
    await until(() => isSilent('a'));
    beat('a');
    await scene.settle();
    expect(isSilent('a')).toBe(true);
    reportServing();
    await passMinutes(3, 'b');
    expect(readyOf('a')).toMatchObject({ status: 'True' });
    await passMinutes(2, 'b');
    await until(() => isSilent('a'));
  });

  it('is not argued with where it reports but cannot renew its lease', async () => {
    await passMinutes(5, 'b');
    await until(() => isSilent('a'));
    const before = scene.writes.length;
    reportServing();
    await passMinutes(3, 'b');
    expect(readyOf('a')).toMatchObject({ status: 'True' });
    expect(scene.writes).toHaveLength(before);
  });

  it('is not silent where only the watch is', async () => {
    await passMinutes(3, 'a', 'b');
    scene.server.muteWatches();
    beat('a');
    beat('b');
    scene.clock.advance(185_000);
    await scene.settle();
    scene.clock.advance(4000);
    await scene.settle();
    expect(readyOf('a')).toMatchObject({ status: 'True' });
    expect(readyOf('b')).toMatchObject({ status: 'True' });
  });

  it('is not silent where its lease is not to be had from the API server', async () => {
    const isOfLease = ({ method, path }: { method: string; path: string }) =>
      method === 'GET' && path.endsWith(`/leases/${nodeLeaseName('a')}`);
    scene.server.inject({ fault: { kind: 'status', status: 500 }, match: isOfLease, times: 1000 });
    await passMinutes(6, 'b');
    expect(scene.server.requests.some(isOfLease)).toBe(true);
    expect(readyOf('a')).toMatchObject({ status: 'True' });
    scene.server.heal();
    await passMinutes(2, 'b');
    await until(() => isSilent('a'));
  });
});

describe('what another controller has seen', () => {
  it('counts for nothing: the time begins with the one that is elected', async () => {
    firstBeat('a');
    const end = await scene.elect();
    await passMinutes(3);
    await end();
    await scene.elect();
    await passMinutes(3);
    expect(readyOf('a')).toMatchObject({ status: 'True' });
    await passMinutes(2);
    await until(() => isSilent('a'));
    const { message } = readyOf('a') ?? {};
    const before = scene.writes.length;
    await scene.elect();
    await passMinutes(6);
    expect(readyOf('a')?.message).toBe(message);
    expect(scene.writes).toHaveLength(before);
  });
});

describe('a node without a lease', () => {
  it('is not judged: nothing was ever heard of its plugin that could be missing', async () => {
    await scene.elect();
    await passMinutes(10);
    expect(readyOf('a')).toMatchObject({ status: 'True' });
  });

  it('that had one is silent as well', async () => {
    firstBeat('a');
    await scene.elect();
    await scene.settle();
    scene.remove(leaseType, nodeLeaseName('a'));
    await passMinutes(5);
    await until(() => isSilent('a'));
  });
});

describe('the lease of a node that is gone', () => {
  const hasLease = (node: string) => scene.find(leaseType, nodeLeaseName(node)) !== undefined;

  it('goes when it is not renewed any more, and no other', async () => {
    firstBeat('a');
    firstBeat('b');
    await scene.elect();
    await passMinutes(1, 'a', 'b');
    a.vanish();
    await passMinutes(3, 'a', 'b');
    expect(hasLease('a')).toBe(true);
    await passMinutes(5, 'b');
    await until(() => !hasLease('a'));
    expect(hasLease('b')).toBe(true);
    expect(readyOf('a')?.reason).not.toBe('NodeSilent');
  });

  it('stays where the API server still has the node', async () => {
    firstBeat('a');
    await scene.elect();
    await scene.settle();
    a.vanish();
    await until(() => readyOf('a')?.reason === 'NodeGone');
    scene.server.muteWatches();
    scene.create(nodeType, { name: 'a' }, {});
    scene.clock.advance(241_000);
    await scene.settle();
    expect(hasLease('a')).toBe(true);
  });
});
