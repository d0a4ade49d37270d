import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type EventNote, EventSender } from '../../../../src/kube/events/events.ts';
import type { Json } from '../../../fakes/api-patch.ts';
import { type Scene, startScene, thingType, until } from '../../../fakes/kube-scene.ts';

let scene: Scene;
let events: EventSender;
let dropped: string[];

beforeEach(async () => {
  scene = await startScene();
  const { client, clock, logger } = scene;
  const reporter = { reportingController: 'test.lamina.storage/controller', reportingInstance: 'pod-1' };
  dropped = [];
  const observer = { observeDroppedEvent: ({ why }: { why: string }) => void dropped.push(why) };
  events = new EventSender({ client, clock, logger, observer, ...reporter });
});

afterEach(async () => {
  await events.stop();
  await scene.stop();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const subject = {
  apiVersion: 'test.lamina.storage/v1',
  kind: 'Thing',
  metadata: { name: 'a', namespace: 'media', uid: 'u1' },
};
const full: EventNote = { type: 'Warning', reason: 'PoolFull', action: 'Create', note: 'no room for 1 GiB' };
const eventType = { group: 'events.k8s.io', version: 'v1', kind: 'Event', plural: 'events', namespaced: true };

function stored(): Json[] {
  return scene.server.objects.list(eventType);
}

/** Waits until no answer is awaited any more. */
async function untilIdle(): Promise<void> {
  await until(() => !scene.clock.pending.includes(30_000));
}

/** Lets the time go by after which repetitions are sent. */
async function tick(): Promise<void> {
  await until(() => scene.clock.pending.includes(10_000) && !scene.clock.pending.includes(30_000));
  scene.clock.advance(10_000);
  await untilIdle();
}

describe('an event', () => {
  it('is sent at once, with all that people and programs look for', async () => {
    events.record(subject, full);
    await until(() => stored().length === 1);
    expect(stored()[0]).toMatchObject({
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name: expect.stringMatching(/^a\.[0-9a-f]{16}$/), namespace: 'media' },
      eventTime: '2026-01-01T00:00:00.000000Z',
      reportingController: 'test.lamina.storage/controller',
      reportingInstance: 'pod-1',
      regarding: { kind: 'Thing', name: 'a', namespace: 'media', uid: 'u1', apiVersion: 'test.lamina.storage/v1' },
      ...full,
    });
    expect(stored()[0]).not.toHaveProperty('series');
  });

  it('of a cluster-scoped object is in the namespace default', async () => {
    events.record({ ...subject, metadata: { name: 'pool', uid: 'u2' } }, full);
    await until(() => stored().length === 1);
    expect(stored()[0]).toMatchObject({ metadata: { namespace: 'default' } });
  });

  it('that is too long is cut off between characters', async () => {
    const name = `${'n'.repeat(235)}-${'m'.repeat(17)}`;
    events.record({ ...subject, metadata: { name, namespace: 'media' } }, { ...full, note: 'ä'.repeat(2000) });
    await until(() => stored().length === 1);
    const { metadata, note } = stored()[0] as { metadata: { name: string }; note: string };
    expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1024);
    expect(note).toMatch(/^ä+…$/);
    expect(metadata.name.length).toBeLessThanOrEqual(253);
    expect(metadata.name).toMatch(/^[a-z0-9.-]*[a-z0-9]\.[0-9a-f]+$/);
  });

  it('that happens again is counted, with one write in ten seconds', async () => {
    for (let i = 0; i < 100; i++) events.record(subject, full);
    await until(() => stored().length === 1);
    await tick();
    await until(() => (stored()[0]?.['series'] as Json | undefined)?.['count'] === 100);
    await untilIdle();
    scene.clock.advance(60_000);
    for (let i = 0; i < 50; i++) events.record(subject, full);
    await tick();
    await until(() => (stored()[0]?.['series'] as Json | undefined)?.['count'] === 150);
    expect(stored()[0]?.['series']).toEqual({ count: 150, lastObservedTime: '2026-01-01T00:01:10.000000Z' });
    expect([stored().length, scene.server.writes.length]).toEqual([1, 3]);
  });

  it('that happens again after a long time is a new one, as is one that says something else', async () => {
    events.record(subject, full);
    await until(() => stored().length === 1);
    await untilIdle();
    scene.clock.advance(11 * 60_000);
    events.record(subject, full);
    events.record(subject, { ...full, note: 'no room for 2 GiB' });
    events.record({ ...subject, metadata: { ...subject.metadata, uid: 'u2' } }, full);
    await until(() => stored().length === 4);
  });

  it('that the API server has forgotten is made anew', async () => {
    events.record(subject, full);
    await until(() => stored().length === 1);
    const { metadata } = scene.server.objects.list(eventType)[0] ?? expect.unreachable();
    const address = { type: eventType, namespace: 'media', name: metadata.name, subresource: '' };
    await untilIdle();
    scene.server.objects.remove(address);
    events.record(subject, full);
    await tick();
    await until(() => stored().length === 1);
    expect(stored()[0]).toMatchObject({ series: { count: 2 } });
  });
});

describe('too many events', () => {
  it('of one object, each with other words, are dropped; it may say something again later', async () => {
    for (let i = 0; i < 100; i++) events.record(subject, { ...full, note: `no room: ${i}` });
    await until(() => stored().length === 25);
    events.record({ ...subject, metadata: { ...subject.metadata, name: 'b' } }, full);
    await until(() => stored().length === 26);
    await untilIdle();
    scene.clock.advance(5 * 60_000);
    for (let i = 200; i < 300; i++) events.record(subject, { ...full, note: `no room: ${i}` });
    await until(() => stored().length === 27);
    await events.stop();
    expect(scene.server.count('POST')).toBe(27);
    expect(dropped).toEqual(Array.from({ length: 75 + 99 }, () => 'too-many'));
  });
});

describe('an API server that fails', () => {
  it('does not hold anybody up, and gets the event later, with all of its repetitions', async () => {
    await scene.server.stop();
    for (let i = 0; i < 10; i++) events.record(subject, full);
    await until(() => scene.clock.pending.includes(10_000) && !scene.clock.pending.includes(30_000));
    await scene.server.start();
    await tick();
    await until(() => stored().length === 1);
    expect(stored()[0]).toMatchObject({ series: { count: 10 } });
  });

  it('for long loses the event, and not more', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 500 }, times: 3 });
    events.record(subject, full);
    await tick();
    await tick();
    await until(() => scene.logger.entries.length === 1);
    expect(scene.logger.entries[0]).toMatchObject({ level: 'debug', message: 'an event could not be sent' });
    expect(scene.clock.pending).toEqual([]);
    events.record(subject, { ...full, note: 'other' });
    await until(() => stored().length === 1);
  });

  it('with a refusal is not asked again, as in a namespace that is being deleted', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 403, reason: 'Forbidden' } });
    events.record(subject, full);
    await until(() => scene.logger.entries.length === 1);
    expect([scene.clock.pending, scene.server.count('POST')]).toEqual([[], 1]);
    expect(dropped).toEqual(['refused']);
  });
});

describe('a sender that is stopped', () => {
  it('sends what waits, and takes no more', async () => {
    events.record(subject, full);
    await until(() => stored().length === 1 && !scene.clock.pending.includes(30_000));
    events.record(subject, full);
    events.record({ ...subject, kind: thingType.kind, metadata: { name: 'b', namespace: 'media' } }, full);
    await events.stop();
    expect(stored()).toHaveLength(2);
    expect(stored()[0]).toMatchObject({ series: { count: 2 } });
    events.record({ ...subject, metadata: { name: 'c', namespace: 'media' } }, full);
    await events.stop();
    expect(stored()).toHaveLength(2);
  });
});
