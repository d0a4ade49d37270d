import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { diskImages } from '../../../../src/api/objects.ts';
import { ControllerPlugin } from '../../../../src/roles/controller-plugin/controller-plugin.ts';
import type { FakeClusterNode } from '../../../fakes/cluster-node.ts';
import { ClusterScene, failureOf, systemNamespace, until } from '../../../fakes/cluster-scene.ts';
import { silentObserver } from '../../../fakes/silent-observer.ts';

let scene: ClusterScene;
let a: FakeClusterNode;
let running: Running[];

beforeEach(async () => {
  scene = await ClusterScene.start();
  a = scene.addNode({ name: 'a' });
  running = [];
});

afterEach(async () => {
  for (const one of running) await one.stop();
  await scene.end();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const leaseType = { group: 'coordination.k8s.io', version: 'v1', kind: 'Lease', plural: 'leases', namespaced: true };
const lease = { type: leaseType, namespace: systemNamespace, name: 'lamina-controller', subresource: '' };

/** A controller that runs. */
class Running {
  readonly plugin: ControllerPlugin;
  readonly outcome: Promise<'ended' | 'lost'>;
  isLeader = false;
  hasEnded = false;
  readonly #stop = new AbortController();

  constructor(identity: string) {
    const { clock, logger } = scene;
    this.plugin = new ControllerPlugin({
      cluster: { client: scene.connect(), systemNamespace },
      identity,
      orphanGraceMs: 600_000,
      checkpoint: () => {},
      clock,
      random: () => 0,
      logger,
      observer: {
        ...silentObserver,
        setLeader: (isLeader) => {
          this.isLeader = isLeader;
        },
      },
    });
    this.outcome = this.plugin.run(this.#stop.signal, async () => {
      this.hasEnded = true;
    });
    running.push(this);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.outcome;
  }
}

const declare = (name: string) =>
  scene.create(diskImages, { name, namespace: 'media' }, { size: '1Gi', source: { type: 'blank' } });
const nodeOf = (name: string) =>
  (scene.find(diskImages, name, 'media')?.['spec'] as { nodeName?: string } | undefined)?.nodeName;
const createVolume = ({ plugin }: Running, name: string) =>
  plugin.service.createDisk(
    {
      name,
      size: { requiredBytes: 1024 ** 3, limitBytes: 0 },
      options: { format: 'qcow2', preallocation: 'off', clusterSizeBytes: null, liveSnapshots: false },
      source: null,
    },
    { nodes: { allowed: null, preferred: [] }, pool: 'default', claim: null, transfer: 'images' as const },
  );

describe('of two controllers', () => {
  it('one does what is to be done once, both serve CSI, and the other takes over', async () => {
    const first = new Running('first');
    await until(() => first.isLeader);
    const second = new Running('second');
    await until(() => second.plugin.isReady);
    declare('d1');
    await until(() => nodeOf('d1') === 'a');
    expect([first.isLeader, second.isLeader]).toEqual([true, false]);
    await createVolume(first, 'pvc-1');
    await createVolume(second, 'pvc-2');
    await first.stop();
    expect([await first.outcome, first.isLeader, first.hasEnded]).toEqual(['ended', false, true]);
    await until(() => scene.clock.pending.includes(2000));
    scene.clock.advance(2000);
    await until(() => second.isLeader);
    declare('d2');
    await until(() => nodeOf('d2') === 'a');
  });
});

describe('a controller', () => {
  it('that loses the election ends, and writes nothing more', async () => {
    const one = new Running('one');
    await until(() => one.isLeader);
    const spec = { holderIdentity: 'two', leaseDurationSeconds: 15 };
    scene.server.objects.mergePatch(lease, { spec });
    await until(() => scene.clock.pending.includes(2000));
    scene.clock.advance(2000);
    expect(await one.outcome).toBe('lost');
    expect([one.isLeader, one.hasEnded]).toEqual([false, true]);
    declare('d1');
    await scene.settle();
    expect(nodeOf('d1')).toBeUndefined();
  });

  it('ends the calls that wait, and its election, when it is told to stop', async () => {
    a.reply = () => 'nothing';
    const one = new Running('one');
    await until(() => one.isLeader && one.plugin.isReady);
    const call = failureOf(createVolume(one, 'pvc-1'));
    await until(() => scene.find(diskImages, 'pvc-1') !== undefined);
    await one.stop();
    expect((await call).code).toBe('busy');
    expect(await one.outcome).toBe('ended');
    expect(scene.server.objects.get(lease)['spec']).toMatchObject({ holderIdentity: '' });
  });

  it('is not ready before it knows the whole cluster, and refuses until then', async () => {
    const gate = Promise.withResolvers<void>();
    scene.server.inject({
      fault: { kind: 'slow', until: gate.promise },
      match: ({ path }) => path.endsWith('/diskpools'),
    });
    const one = new Running('one');
    await until(() => one.isLeader);
    expect(one.plugin.isReady).toBe(false);
    expect((await failureOf(createVolume(one, 'pvc-1'))).code).toBe('api-unavailable');
    gate.resolve();
    await until(() => one.plugin.isReady);
    await createVolume(one, 'pvc-1');
  });

  it('sends nothing but its renewals in a settled cluster', async () => {
    const one = new Running('one');
    await until(() => one.isLeader && one.plugin.isReady);
    await createVolume(one, 'pvc-1');
    declare('d1');
    // What is told of that is the last thing that is sent.
    await until(() => nodeOf('d1') === 'a' && scene.eventsOf('d1').length > 0);
    await scene.settle();
    const before = scene.server.requests.length;
    for (let i = 0; i < 5; i++) {
      await until(() => scene.clock.pending.includes(2000));
      scene.clock.advance(2000);
      await scene.settle();
    }
    const since = scene.server.requests.slice(before).map(({ method, path }) => `${method} ${path.split('/').at(-1)}`);
    expect(new Set(since)).toEqual(new Set(['PUT lamina-controller']));
  });
});
