import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  isAlreadyExists,
  isConflict,
  isObjectMissing,
  isUnreachable,
  retryAfterMsOf,
} from '../../../../src/kube/client/api-error.ts';
import { ApiClient } from '../../../../src/kube/client/client.ts';
import { FileSource } from '../../../../src/kube/client/file-source.ts';
import { ResourceClient } from '../../../../src/kube/client/resource-client.ts';
import { type Scene, startScene, thingType, until } from '../../../fakes/kube-scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await startScene();
});

afterEach(async () => {
  await scene.stop();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

const ref = { namespace: 'media', name: 'a' };

/** What the promise rejects with. */
async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable('it succeeded'),
    (error: unknown) => error,
  );
}

describe('objects', () => {
  it('are made, read, replaced, patched and removed', async () => {
    const { things } = scene;
    const made = await things.create({ metadata: ref, ...{ spec: { size: '2Gi' } } });
    expect(made).toMatchObject({ metadata: { generation: 1 }, spec: { sizeGi: 2, pool: 'default' }, status: {} });
    await things.mergePatch(ref, { status: { used: '1Gi' } }, { subresource: 'status' });
    await things.mergePatch(ref, { spec: { size: '3Gi' }, status: { used: '9Gi' } });
    expect(await things.get(ref)).toMatchObject({
      metadata: { generation: 2 },
      spec: { sizeGi: 3 },
      status: { used: 1 },
    });
    await things.removeIfPresent(ref);
    await things.removeIfPresent(ref);
    expect(await things.get(ref)).toBeUndefined();
  });

  it('are not taken for missing where their type is what is missing', async () => {
    const unknown = new ResourceClient(scene.client, { ...thingType, plural: 'unknowns' });
    const failure = await failureOf(unknown.get(ref));
    expect(failure).toMatchObject({ code: 'api-refused', failure: { status: 404 } });
    expect(isObjectMissing(failure, 'a')).toBe(false);
    await expect(unknown.removeIfPresent(ref)).rejects.toMatchObject({ code: 'api-refused' });
  });

  it('are listed page by page, and from the start where the API server forgets the list between the pages', async () => {
    for (let i = 0; i < 1201; i++) scene.make(`n${i}`);
    expect(await scene.things.list()).toHaveLength(1201);
    expect(scene.server.count('GET')).toBe(3);
    scene.server.inject({
      fault: { kind: 'status', status: 410, reason: 'Expired' },
      match: ({ query }) => query.has('continue'),
    });
    expect(await scene.things.list()).toHaveLength(1201);
    expect(scene.server.requests.at(-1)?.query.has('limit')).toBe(false);
  });

  it('are selected by labels and fields', async () => {
    scene.make('a', { node: 'x' }, { labels: { team: 'red' } });
    scene.make('b', { node: 'y' }, { labels: { team: 'red' } });
    const red = await scene.things.list({
      labelSelector: 'team=red',
      fieldSelector: 'spec.node=x',
      namespace: 'media',
    });
    expect(red.map(({ metadata }) => metadata.name)).toEqual(['a']);
  });

  it('that somebody else has changed are a conflict, and those that are there already are told apart', async () => {
    scene.make('a');
    const before = await scene.things.get(ref);
    await scene.things.mergePatch(ref, { spec: { size: '2Gi' } });
    const failure = await failureOf(scene.things.replace({ ...before, metadata: before?.metadata ?? ref }));
    expect(isConflict(failure)).toBe(true);
    const taken = await failureOf(scene.things.create({ metadata: ref }));
    expect([isAlreadyExists(taken), isConflict(taken)]).toEqual([true, false]);
    await expect(scene.things.removeIfPresent(ref, { uid: 'another' })).rejects.toMatchObject({ code: 'api-conflict' });
  });

  it('that are not understood are refused by name, and so is what is no object', async () => {
    scene.make('a', { size: 'huge' });
    await expect(scene.things.get(ref)).rejects.toMatchObject({
      code: 'resource-invalid',
      message: expect.stringContaining(
        "Thing media/a is not what this version of Lamina understands: 'huge' is no size",
      ),
    });
    scene.server.inject({ fault: { kind: 'garbage', text: '{"kind":"Thing"}' } });
    await expect(scene.things.get(ref)).rejects.toMatchObject({ code: 'api-unavailable' });
  });

  it('are not asked for without a name, which would be the list of all', async () => {
    await expect(scene.things.removeIfPresent({ namespace: 'media', name: '' })).rejects.toMatchObject({
      code: 'invalid-parameter',
    });
    await expect(scene.things.get({ name: 'a' })).rejects.toMatchObject({ code: 'invalid-parameter' });
    expect(scene.server.requests).toEqual([]);
  });
});

describe('an API server that is overloaded', () => {
  it('is asked again when it wants to be, for writes too', async () => {
    scene.make('a');
    scene.server.inject({ fault: { kind: 'status', status: 429, retryAfterSeconds: 3 }, times: 2 });
    const patched = scene.things.mergePatch(ref, { spec: { size: '2Gi' } });
    for (const times of [1, 2]) {
      await until(() => scene.server.count('PATCH') === times && scene.clock.pending.includes(3000));
      scene.clock.advance(3000);
    }
    expect((await patched).spec.sizeGi).toBe(2);
  });

  it('is left alone for as long as it wants, by the caller where that is long', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 429, retryAfterSeconds: 60 } });
    const failure = await failureOf(scene.things.get(ref));
    expect(retryAfterMsOf(failure)).toBe(60_000);
    expect(failure).toMatchObject({ code: 'api-unavailable' });
  });

  it('is given up after some tries, with its own words', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 429, retryAfterSeconds: 1 }, times: 100 });
    const failure = failureOf(scene.things.get(ref));
    for (let times = 1; times <= 4; times++) {
      await until(() => scene.server.count('GET') === times && scene.clock.pending.includes(1000));
      scene.clock.advance(1000);
    }
    expect(await failure).toMatchObject({ message: expect.stringContaining('429: a fault of the test') });
    expect(scene.server.count('GET')).toBe(5);
  });

  it('that fails a write is not asked again, because it may have been done', async () => {
    scene.server.inject({ fault: { kind: 'status', status: 503, retryAfterSeconds: 1 } });
    await expect(scene.things.create({ metadata: ref })).rejects.toMatchObject({ failure: { status: 503 } });
    expect(scene.server.count('POST')).toBe(1);
  });
});

describe('an API server that does not answer', () => {
  it('is not waited for beyond the time limit', async () => {
    scene.server.inject({ fault: { kind: 'hang' } });
    const failure = failureOf(scene.things.get(ref));
    await until(() => scene.server.count('GET') === 1);
    scene.clock.advance(30_000);
    expect(await failure).toMatchObject({ code: 'timeout', message: expect.stringContaining('GET /apis/') });
  });

  it('is not waited for when the caller does not want to any more', async () => {
    scene.server.inject({ fault: { kind: 'hang' } });
    const abort = new AbortController();
    const failure = failureOf(scene.things.get(ref, { signal: abort.signal }));
    await until(() => scene.server.count('GET') === 1);
    abort.abort(new Error('stopping'));
    expect(await failure).toMatchObject({ message: 'stopping' });
    await expect(scene.things.get(ref, { signal: abort.signal })).rejects.toThrow('stopping');
    expect(scene.server.count('GET')).toBe(1);
  });

  it.each(['drop', 'truncate'] as const)(
    'because the connection breaks is asked again once, to read (%s)',
    async (kind) => {
      scene.make('a');
      scene.server.inject({ fault: { kind } });
      await expect(scene.things.get(ref)).resolves.toBeDefined();
      scene.server.inject({ fault: { kind }, times: 2 });
      expect(isUnreachable(await failureOf(scene.things.get(ref)))).toBe(true);
    },
  );

  it('to a write may have done it', async () => {
    scene.server.inject({ fault: { kind: 'drop-after' } });
    const failure = await failureOf(scene.things.create({ metadata: ref }));
    expect(failure).toMatchObject({ code: 'api-unavailable' });
    await expect(scene.things.get(ref)).resolves.toBeDefined();
  });

  it('in JSON is unavailable', async () => {
    scene.server.inject({ fault: { kind: 'garbage', text: '<html>Bad Gateway</html>' } });
    await expect(scene.things.get(ref)).rejects.toMatchObject({
      code: 'api-unavailable',
      message: expect.stringContaining('the answer is not JSON: "<html>Bad Gateway</html>"'),
    });
  });

  it('because it is down is unreachable, and serves again after its restart', async () => {
    scene.make('a');
    await Promise.all(Array.from({ length: 40 }, () => scene.things.get(ref)));
    await scene.server.stop();
    expect(isUnreachable(await failureOf(scene.things.get(ref)))).toBe(true);
    await scene.server.start();
    await expect(Promise.all(Array.from({ length: 40 }, () => scene.things.get(ref)))).resolves.toHaveLength(40);
  });
});

describe('a token in a file', () => {
  let directory: string;
  let client: ApiClient;
  let things: ResourceClient<(typeof thingType)['parse'] extends (json: unknown) => infer T ? T : never>;

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'lamina-token-'));
    await writeFile(path.join(directory, 'token'), 'first\n');
    const token = new FileSource(path.join(directory, 'token'), scene.clock);
    const connection = { ...scene.server.connection, token };
    client = new ApiClient({ connection, clock: scene.clock, userAgent: 'lamina/test' });
    things = new ResourceClient(client, thingType);
    scene.server.tokens.add('first');
  });

  afterEach(async () => {
    client.close();
    await rm(directory, { recursive: true });
  });

  const replace = (token: string) => writeFile(path.join(directory, 'token'), `${token}\n`);

  it('is read again after a while, so that a replaced one is used before the old one expires', async () => {
    await things.get(ref);
    await replace('second');
    scene.server.tokens.add('second');
    await things.get(ref);
    scene.clock.advance(60_000);
    await things.get(ref);
    expect(scene.server.requests.map(({ token }) => token)).toEqual(['first', 'first', 'second']);
  });

  it('is read again at once when the API server does not take it any more', async () => {
    await things.get(ref);
    await replace('second');
    scene.server.tokens.clear();
    scene.server.tokens.add('second');
    await expect(things.create({ metadata: ref })).resolves.toBeDefined();
    expect(scene.server.requests.map(({ token }) => token)).toEqual(['first', 'first', 'second']);
  });

  it('that is wrong is an error, not a loop', async () => {
    await replace('wrong');
    await expect(things.get(ref)).rejects.toMatchObject({ code: 'api-unavailable', failure: { status: 401 } });
    expect(scene.server.requests).toHaveLength(2);
  });

  it('that is gone is an error that names the file', async () => {
    await rm(path.join(directory, 'token'));
    await expect(things.get(ref)).rejects.toThrow(path.join(directory, 'token'));
  });
});
