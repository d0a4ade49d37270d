import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { keepRenewed } from '../../../../src/kube/election/heartbeat.ts';
import { leaseType } from '../../../../src/kube/election/lease.ts';
import { MemoryLogger } from '../../../fakes/memory-logger.ts';
import { type Scene, startScene, until } from '../../../fakes/kube-scene.ts';

let scene: Scene;
let logger: MemoryLogger;
let stop: AbortController;
let running: Promise<void>;

const lease = { namespace: 'lamina-system', name: 'node.a', labels: { 'test.lamina.storage/lease': 'node' } };
const address = { type: leaseType, namespace: lease.namespace, name: lease.name, subresource: '' };
const everyMs = 60_000;

beforeEach(async () => {
  scene = await startScene();
  logger = new MemoryLogger();
  stop = new AbortController();
  running = Promise.resolve();
});

afterEach(async () => {
  stop.abort();
  await running;
  await scene.stop();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

/** Begins, and waits for the first renewal. */
async function begin(): Promise<void> {
  const { client, clock } = scene;
  const last = renewTime();
  running = keepRenewed({ client, clock, logger, lease, identity: 'a', everyMs, random: () => 0 }, stop.signal);
  await until(() => renewTime() !== last && isIdle());
}

const found = () => scene.server.objects.list(leaseType)[0];
const renewTime = () => (found()?.['spec'] as { renewTime: string } | undefined)?.renewTime;
/** Whether it waits, and not for an answer. */
const isIdle = () => scene.server.pending === 0 && scene.clock.pending.length === 1;

async function wait(ms: number): Promise<void> {
  const before = scene.server.requests.length;
  scene.clock.advance(ms);
  await until(() => scene.server.requests.length > before && isIdle());
}

describe('a heartbeat', () => {
  it('makes its lease, and renews it with one request a time', async () => {
    await begin();
    expect(found()?.metadata['labels']).toEqual(lease.labels);
    expect(found()?.['spec']).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 240, leaseTransitions: 0 });
    const before = scene.server.requests.length;
    for (let i = 1; i <= 3; i++) {
      const last = renewTime();
      await wait(everyMs);
      expect(renewTime()).not.toBe(last);
      expect(scene.server.requests).toHaveLength(before + i);
    }
  });

  it('goes on with the lease of an earlier process at once', async () => {
    await begin();
    stop.abort();
    await running;
    stop = new AbortController();
    scene.clock.advance(1000);
    await begin();
    expect(found()?.['spec']).toMatchObject({ leaseTransitions: 0 });
  });

  it('makes a lease again that somebody has removed', async () => {
    await begin();
    scene.server.objects.remove(address);
    await wait(everyMs);
    expect(found()).toBeDefined();
  });

  it('tries sooner where it fails, and says so once', async () => {
    await begin();
    const last = renewTime();
    const isRenewal = ({ method }: { method: string }) => method === 'PUT';
    scene.server.inject({ fault: { kind: 'status', status: 503 }, match: isRenewal, times: 3 });
    for (const [waitMs, nextMs] of [
      [everyMs, 5000],
      [5000, 10_000],
      [10_000, 20_000],
    ] as const) {
      await wait(waitMs);
      expect(scene.clock.pending).toEqual([nextMs]);
      expect(renewTime()).toBe(last);
    }
    await wait(20_000);
    expect(renewTime()).not.toBe(last);
    expect(logger.entries.map(({ message }) => message)).toEqual([
      'the lease cannot be renewed; trying again',
      'the lease is renewed again',
    ]);
  });
});
