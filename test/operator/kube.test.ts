import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test } from 'vitest';
import { isAlreadyExists, isConflict, isObjectMissing } from '../../src/kube/client/api-error.ts';
import { ensureObject, patchObject, writeStatus } from '../../src/kube/apply.ts';
import { ApiClient } from '../../src/kube/client/client.ts';
import { Controller } from '../../src/kube/controller.ts';
import { runElected } from '../../src/kube/election/election.ts';
import { EventSender } from '../../src/kube/events/events.ts';
import { ensureFinalizer, removeFinalizerIfPresent } from '../../src/kube/finalizers.ts';
import { type KubeObject, keyOf } from '../../src/kube/objects.ts';
import { Reflector } from '../../src/kube/cache/reflector.ts';
import { ResourceClient } from '../../src/kube/client/resource-client.ts';
import type { ResourceType } from '../../src/kube/client/resource-type.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { ManualClock } from '../fakes/manual-clock.ts';
import { MemoryLogger } from '../fakes/memory-logger.ts';
import { findApiServer, KubeApiServer } from '../kube-api-server.ts';

interface Thing extends KubeObject {
  spec: { size: number; node?: string };
  status?: { used?: number; phase?: string };
}

const things: ResourceType<Thing> = {
  group: 'test.lamina.storage',
  version: 'v1',
  kind: 'Thing',
  plural: 'things',
  namespaced: true,
  parse: (json) => json as Thing,
};

const definition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'things.test.lamina.storage' },
  spec: {
    group: things.group,
    scope: 'Namespaced',
    names: { plural: things.plural, kind: things.kind },
    versions: [
      {
        name: things.version,
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: { type: 'object', properties: { size: { type: 'integer' }, node: { type: 'string' } } },
              status: { type: 'object', properties: { used: { type: 'integer' }, phase: { type: 'string' } } },
            },
          },
        },
      },
    ],
  },
};

const found = await findApiServer();
const suite = 'missing' in found ? () => {} : describe;
let server: KubeApiServer;
let client: ApiClient;
let resources: ResourceClient<Thing>;
let abort: AbortController;
let running: Promise<unknown>[];
let names = 0;

beforeAll(async () => {
  if ('missing' in found) return;
  server = await KubeApiServer.start(found);
  await server.send('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { body: definition });
  client = new ApiClient({ connection: server.connection, clock: systemClock, userAgent: 'lamina/test' });
  resources = new ResourceClient(client, things);
  await until(async () => (await server.send('GET', '/apis/test.lamina.storage/v1/things')).status === 200);
}, 240_000);

afterAll(async () => {
  client?.close();
  await server?.stop();
});

beforeEach(() => {
  abort = new AbortController();
  running = [];
});

afterEach(async () => {
  abort.abort();
  await Promise.all(running);
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  if (!(await pollUntil(condition, { timeoutMs: 40_000, intervalMs: 20 })))
    throw new Error(`not in 40 s: ${String(condition)}`);
}

function newRef(): { namespace: string; name: string } {
  return { namespace: 'default', name: `thing-${names++}` };
}

async function make(spec: object = { size: 1 }, ref = newRef()): Promise<Thing> {
  return resources.create({ metadata: ref, ...{ spec } });
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable('it succeeded'),
    (error: unknown) => error,
  );
}

function reflect(): Reflector<Thing> {
  const logger = new MemoryLogger();
  const reflector = new Reflector({ client, type: things, clock: systemClock, random: Math.random, logger });
  running.push(reflector.run(abort.signal));
  return reflector;
}

test('the API server that these tests need is there', (context) => {
  if ('missing' in found) return context.skip(found.missing);
  expect(server.port).toBeGreaterThan(0);
});

suite('objects of a real API server', () => {
  it('are made, changed and removed, with failures that are told apart', async () => {
    const made = await make();
    const ref = made.metadata;
    expect(isAlreadyExists(await failureOf(make({ size: 1 }, newRefOf(made))))).toBe(true);
    const changed = await resources.mergePatch(ref, { spec: { size: 2 } });
    expect(isConflict(await failureOf(resources.replace(made)))).toBe(true);
    expect(changed.metadata.generation).toBe(2);
    const other = await failureOf(resources.removeIfPresent(ref, { uid: '00000000-0000-0000-0000-000000000000' }));
    expect(isConflict(other)).toBe(true);
    await resources.removeIfPresent(ref, { uid: made.metadata.uid });
    await resources.removeIfPresent(ref);
    expect(await resources.get(ref)).toBeUndefined();
  });

  it('are not taken for missing where their type or their namespace is', async () => {
    const ref = newRef();
    const unknown = new ResourceClient(client, { ...things, plural: 'nothings' });
    const failure = await failureOf(unknown.get(ref));
    expect([isObjectMissing(failure, ref.name), failure]).toMatchObject([false, { failure: { status: 404 } }]);
    const lost = await failureOf(make({ size: 1 }, { ...ref, namespace: 'nowhere' }));
    expect([isObjectMissing(lost, ref.name), lost]).toMatchObject([false, { failure: { objectName: 'nowhere' } }]);
  });

  it('are refused to a stranger, with a wrong token', async () => {
    const connection = { ...server.connection, token: 'wrong' };
    const stranger = new ApiClient({ connection, clock: systemClock, userAgent: 'lamina/test' });
    const failure = await failureOf(new ResourceClient(stranger, things).get(newRef()));
    stranger.close();
    expect(failure).toMatchObject({ code: 'api-unavailable', failure: { status: 401 } });
  });

  it('are applied and patched with no write where nothing differs', async () => {
    const ref = newRef();
    const wanted = { metadata: { ...ref, labels: { team: 'red' } }, spec: { size: 1, node: 'x' } };
    const options = { fieldManager: 'test' };
    const made = await ensureObject(resources, undefined, wanted, options);
    expect(await ensureObject(resources, made, wanted, options)).toBe(made);
    // What was applied and is not wanted any more goes, labels as well.
    const smaller = await ensureObject(resources, made, { metadata: ref, spec: { size: 1 } }, options);
    expect([smaller.spec, smaller.metadata.labels]).toEqual([{ size: 1 }, undefined]);
    const written = await writeStatus(resources, smaller, { used: 5, phase: 'Ready' });
    expect(await writeStatus(resources, written, { used: 5 })).toBe(written);
    const removed = await writeStatus(resources, written, { phase: null });
    expect(removed.status).toEqual({ used: 5 });
    expect(isConflict(await failureOf(writeStatus(resources, written, { used: 6 })))).toBe(true);
    expect(isConflict(await failureOf(patchObject(resources, written, { spec: { size: 3 } })))).toBe(true);
    const other = resources.apply({ metadata: ref, ...{ spec: { size: 9 } } }, { fieldManager: 'other' });
    expect(isConflict(await failureOf(other))).toBe(true);
  });

  it('stay until their finalizers are removed', async () => {
    const finalizer = 'test.lamina.storage/files';
    const kept = await ensureFinalizer(resources, await make(), finalizer);
    await resources.removeIfPresent(kept.metadata);
    const leaving = await resources.get(kept.metadata);
    expect(leaving?.metadata.deletionTimestamp).toBeDefined();
    await removeFinalizerIfPresent(resources, leaving ?? expect.unreachable(), finalizer);
    expect(await resources.get(kept.metadata)).toBeUndefined();
    await make({ size: 1 }, newRefOf(kept));
    await removeFinalizerIfPresent(resources, leaving ?? expect.unreachable(), finalizer);
    expect(await resources.get(kept.metadata)).toBeDefined();
  });
});

function newRefOf({ metadata: { name } }: KubeObject): { namespace: string; name: string } {
  return { namespace: 'default', name };
}

suite('a reflector of a real API server', () => {
  it('has all objects of many pages, follows changes, and does so again when the API server was killed', async () => {
    const first = await Promise.all(Array.from({ length: 600 }, () => make()));
    const reflector = reflect();
    await reflector.whenSynced(abort.signal);
    expect(reflector.cache.size).toBe((await resources.list()).length);
    const [one, two] = [first[0] ?? expect.unreachable(), first[1] ?? expect.unreachable()];
    await resources.mergePatch(one.metadata, { spec: { size: 7 } });
    await resources.removeIfPresent(two.metadata);
    await until(() => reflector.cache.get(keyOf(one.metadata))?.spec.size === 7);
    await until(() => !reflector.cache.has(keyOf(two.metadata)));
    await server.restart();
    await until(async () => (await server.send('GET', '/apis/test.lamina.storage/v1/things')).status === 200);
    await resources.mergePatch(one.metadata, { spec: { size: 8 } });
    const made = await make();
    await until(() => reflector.cache.get(keyOf(one.metadata))?.spec.size === 8);
    await until(() => reflector.cache.has(keyOf(made.metadata)));
    expect(reflector.cache.keys().toSorted()).toEqual(
      (await resources.list()).map(({ metadata }) => keyOf(metadata)).toSorted(),
    );
  });

  it('drives a controller into a settled state, in which no object is written', async () => {
    const made = await Promise.all(Array.from({ length: 20 }, (_, size) => make({ size, node: 'settle' })));
    const reflector = reflect();
    let writes = 0;
    const controller = new Controller({
      name: 'test',
      workers: 4,
      clock: systemClock,
      random: Math.random,
      logger: new MemoryLogger(),
      reconcile: async (key, signal) => {
        const thing = reflector.cache.get(key);
        if (thing?.spec.node !== 'settle') return 'done';
        if ((await writeStatus(resources, thing, { used: thing.spec.size }, { signal })) !== thing) writes++;
        return { againAfterMs: 50 };
      },
    });
    controller.watch(reflector, ({ metadata }) => [keyOf(metadata)]);
    running.push(controller.run(abort.signal));
    const isSettled = () =>
      made.every(({ metadata }) => {
        const thing = reflector.cache.get(keyOf(metadata));
        return thing !== undefined && thing.status?.used === thing.spec.size;
      });
    await until(isSettled);
    const version = () => reflector.cache.list().map(({ metadata }) => metadata.resourceVersion);
    const before = version();
    await make({ size: 1, node: 'other' });
    await until(() => reflector.cache.list().some(({ spec }) => spec.node === 'other'));
    expect(version()).toEqual(expect.arrayContaining(before));
    expect(writes).toBe(20);
  });
});

suite('an election on a real API server', () => {
  it('has one winner, and the next one at once when that stops', async () => {
    const lease = { namespace: 'default', name: 'election' };
    const elected: string[] = [];
    const stops = ['a', 'b', 'c'].map((identity) => {
      const stop = new AbortController();
      abort.signal.addEventListener('abort', () => stop.abort());
      const options = { client, clock: systemClock, random: Math.random, logger: new MemoryLogger(), lease, identity };
      const work = async ({ signal }: { signal: AbortSignal }) => {
        elected.push(identity);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      };
      running.push(runElected(options, work, stop.signal));
      return { identity, stop };
    });
    await until(() => elected.length === 1);
    const start = performance.now();
    stops.find(({ identity }) => identity === elected[0])?.stop.abort();
    await until(() => elected.length === 2);
    expect(performance.now() - start).toBeLessThan(10_000);
    expect(new Set(elected).size).toBe(2);
  });
});

suite('events on a real API server', () => {
  it('are taken, and counted when they repeat', async () => {
    const clock = new ManualClock();
    const logger = new MemoryLogger();
    const reporter = { reportingController: 'test.lamina.storage/controller', reportingInstance: 'pod-1' };
    const sender = new EventSender({ client, clock, logger, ...reporter });
    const { metadata } = await make();
    const subject = { apiVersion: 'test.lamina.storage/v1', kind: 'Thing', metadata };
    const note = { type: 'Warning', reason: 'PoolFull', action: 'Create', note: 'no room'.repeat(300) } as const;
    sender.record(subject, note);
    sender.record({ ...subject, metadata: { name: 'worker-1', uid: 'u' } }, note);
    const events = async () => {
      const { body } = await server.send('GET', '/apis/events.k8s.io/v1/namespaces/default/events');
      const { items } = body as { items: { regarding: { name: string }; series?: { count: number } }[] };
      return items.filter(({ regarding }) => [metadata.name, 'worker-1'].includes(regarding.name));
    };
    await until(async () => (await events()).length === 2);
    for (let i = 0; i < 4; i++) sender.record(subject, note);
    await sender.stop();
    expect((await events()).map(({ series }) => series?.count)).toContain(5);
    expect(logger.entries).toEqual([]);
  });
});
