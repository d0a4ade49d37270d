import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Change } from '../../../../src/kube/cache/object-cache.ts';
import { Reflector, type ReflectorOptions } from '../../../../src/kube/cache/reflector.ts';
import type { FakeType } from '../../../fakes/api-objects.ts';
import { type Scene, startScene, type Thing, thingType, until } from '../../../fakes/kube-scene.ts';

let scene: Scene;
let reflector: Reflector<Thing>;
let changes: string[];
let abort: AbortController;
let running: Promise<void>;

beforeEach(async () => {
  scene = await startScene();
  abort = new AbortController();
  changes = [];
  running = Promise.resolve();
});

afterEach(async () => {
  abort.abort();
  await running;
  await scene.stop();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

function run(options: Partial<ReflectorOptions<Thing>> = {}): void {
  const { client, clock, logger } = scene;
  reflector = new Reflector({ client, type: thingType, clock, random: () => 0.5, logger, ...options });
  reflector.subscribe((change) => changes.push(describeChange(change)));
  running = reflector.run(abort.signal);
}

async function runAndSync(options: Partial<ReflectorOptions<Thing>> = {}): Promise<void> {
  run(options);
  await until(() => scene.server.watchCount === 1);
}

function describeChange({ key, before, after }: Change<Thing>): string {
  return `${before ? (after ? '~' : '-') : '+'}${key}`;
}

function sizes(): Record<string, number> {
  return Object.fromEntries(reflector.cache.list().map(({ metadata, spec }) => [metadata.name, spec.sizeGi]));
}

function grow(name: string, size: string): void {
  scene.server.objects.mergePatch(scene.at(name), { spec: { size } });
}

function lists(): number {
  return scene.server.requests.filter(({ query }) => !query.has('watch')).length;
}

function watches(): URLSearchParams[] {
  return scene.server.requests.flatMap(({ query }) => (query.has('watch') ? [query] : []));
}

/** With the chance of these tests. */
const retryDelays = [750, 1500, 3000, 6000, 12_000, 24_000, 45_000];

/** Lets time go by until the reflector tries again. @returns how long that took */
async function untilRetry(): Promise<number> {
  const delayOf = () => scene.clock.pending.find((ms) => retryDelays.includes(ms));
  await until(() => delayOf() !== undefined, 'a wait');
  const before = scene.server.requests.length;
  const delayMs = delayOf() ?? 0;
  scene.clock.advance(delayMs);
  await until(() => scene.server.requests.length > before, 'a new request');
  return delayMs;
}

describe('a reflector', () => {
  it('lists in pages, then follows what is made, changed and deleted', async () => {
    for (let i = 0; i < 501; i++) scene.make(`n${i}`);
    run();
    expect(reflector.hasSynced).toBe(false);
    await reflector.whenSynced(abort.signal);
    expect([reflector.cache.size, lists()]).toEqual([501, 2]);
    changes = [];
    scene.make('new');
    grow('n1', '2Gi');
    scene.server.objects.remove(scene.at('n2'));
    await until(() => changes.length === 3);
    expect(changes).toEqual(['+media/new', '~media/n1', '-media/n2']);
    expect(reflector.cache.get('media/n1')?.spec.sizeGi).toBe(2);
    expect(reflector.cache.has('media/n2')).toBe(false);
  });

  it('asks for bookmarks and for watches of 290 to 580 seconds', async () => {
    await runAndSync();
    expect(Object.fromEntries(watches()[0] ?? [])).toMatchObject({
      allowWatchBookmarks: 'true',
      timeoutSeconds: '435',
    });
  });

  it('goes on where it was when the API server ends a watch, without a list and without a pause', async () => {
    scene.make('a');
    await runAndSync();
    scene.clock.advance(5000);
    scene.server.endWatches();
    grow('a', '2Gi');
    await until(() => sizes()['a'] === 2);
    expect(lists()).toBe(1);
  });

  it('goes on from a bookmark, after which older versions may be forgotten', async () => {
    scene.make('a');
    await runAndSync();
    scene.server.objects.compact();
    scene.server.sendBookmarks();
    scene.clock.advance(5000);
    scene.server.endWatches();
    await until(() => watches().length === 2 && scene.server.watchCount === 1);
    expect(lists()).toBe(1);
  });

  it('gives the objects of its selectors and namespace only', async () => {
    scene.make('a', { node: 'x' });
    scene.make('b', { node: 'y' });
    await runAndSync({ fieldSelector: 'spec.node=x', namespace: 'media' });
    expect(Object.keys(sizes())).toEqual(['a']);
    scene.server.objects.mergePatch(scene.at('b'), { spec: { node: 'x' } });
    scene.server.objects.mergePatch(scene.at('a'), { spec: { node: 'y' } });
    await until(() => Object.keys(sizes()).join() === 'b');
  });

  it('finds objects by its indexes, as they are now', async () => {
    scene.make('a', { node: 'x' });
    scene.make('b', { node: 'x' });
    await runAndSync({ indexers: { node: ({ spec }) => (spec.node ? [spec.node] : []) } });
    const on = (node: string) => reflector.cache.byIndex('node', node).map(({ metadata }) => metadata.name);
    expect([on('x'), on('y')]).toEqual([['a', 'b'], []]);
    scene.server.objects.mergePatch(scene.at('a'), { spec: { node: 'y' } });
    scene.server.objects.remove(scene.at('b'));
    await until(() => changes.length === 4);
    expect([on('x'), on('y')]).toEqual([[], ['a']]);
    expect(() => reflector.cache.byIndex('size', '1')).toThrow("no index 'size'");
  });

  it('gives objects that cannot be changed by accident', async () => {
    scene.make('a');
    await runAndSync();
    const object = reflector.cache.get('media/a');
    expect(() => {
      if (object) object.spec.sizeGi = 7;
    }).toThrow(TypeError);
  });

  it('tells a listener that comes late of everything that is there', async () => {
    scene.make('a');
    await runAndSync();
    const late: string[] = [];
    reflector.subscribe((change) => late.push(describeChange(change)))();
    scene.make('b');
    await until(() => changes.length === 2);
    expect(late).toEqual(['+media/a']);
  });

  it('goes on when a listener fails, and says so', async () => {
    run();
    reflector.subscribe(() => {
      throw new Error('no');
    });
    scene.make('a');
    await until(() => changes.length === 1);
    expect(scene.logger.entries).toMatchObject([
      { level: 'error', fields: { key: 'media/a' }, message: 'a listener failed' },
    ]);
  });

  it('keeps an object that it does not understand as there, and tells why it cannot be had', async () => {
    scene.make('a', { size: 'huge' });
    scene.make('b');
    await runAndSync();
    expect(reflector.cache.keys()).toEqual(['media/a', 'media/b']);
    expect(Object.keys(sizes())).toEqual(['b']);
    expect(() => reflector.cache.get('media/a')).toThrow(
      'Thing media/a is not what this version of Lamina understands',
    );
    grow('a', '2Gi');
    await until(() => sizes()['a'] === 2);
    grow('a', 'huge');
    await until(() => !('a' in sizes()));
    expect(reflector.cache.has('media/a')).toBe(true);
    expect(scene.logger.entries).toMatchObject([
      { level: 'error', fields: { key: 'media/a' }, message: 'an object is not understood, and left alone' },
      { level: 'error', fields: { key: 'media/a' } },
    ]);
  });
});

describe('after trouble, a reflector has what the API server has', () => {
  it('when the API server is restarted, with changes meanwhile and without a list', async () => {
    scene.make('a');
    await runAndSync();
    await scene.server.stop();
    await untilRetryFails();
    grow('a', '2Gi');
    scene.make('b');
    await scene.server.start();
    await untilRetry();
    await until(() => sizes()['a'] === 2 && 'b' in sizes());
    expect(lists()).toBe(1);
    expect(levels()).toEqual(['warn', 'debug', 'info']);
  });

  /** Twice: the way is closed, and is still closed. */
  async function untilRetryFails(): Promise<void> {
    for (const entries of [1, 2]) {
      await until(() => scene.logger.entries.length === entries);
      if (entries === 1) scene.clock.advance(1000);
    }
  }

  it.each(['stream', 'status'] as const)(
    'when its version is forgotten (410 as %s), by a new list at once',
    async (expiry) => {
      scene.server.expiry = expiry;
      for (const name of ['a', 'b', 'c']) scene.make(name);
      await runAndSync();
      changes = [];
      scene.server.dropWatches();
      await until(() => scene.logger.entries.length === 1);
      scene.server.objects.remove(scene.at('a'));
      grow('b', '2Gi');
      scene.make('d');
      scene.server.objects.compact();
      // Not once more than the wait after the broken connection.
      scene.clock.advance(1000);
      await until(() => 'd' in sizes());
      await until(() => scene.server.watchCount === 1);
      expect(sizes()).toEqual({ b: 2, c: 1, d: 1 });
      // What did not change is not told again.
      expect(changes.toSorted()).toEqual(['+media/d', '-media/a', '~media/b']);
    },
  );

  it('when a watch that is open expires', async () => {
    scene.make('a');
    await runAndSync();
    scene.server.expireWatches();
    await until(() => lists() === 2 && scene.server.watchCount === 1);
    grow('a', '2Gi');
    await until(() => sizes()['a'] === 2);
    expect(levels()).toEqual(['debug']);
  });

  it('when each of its watches has expired as soon as it begins, with pauses', async () => {
    const isWatch = ({ query }: { query: URLSearchParams }) => query.has('watch');
    scene.server.inject({ fault: { kind: 'status', status: 410, reason: 'Expired' }, match: isWatch, times: 4 });
    run();
    expect([await untilRetry(), await untilRetry(), await untilRetry()]).toEqual([750, 1500, 3000]);
    await until(() => scene.server.watchCount === 1);
    expect(lists()).toBe(5);
  });

  it('when a watch sends what is no event: the rest of it is not taken', async () => {
    scene.make('a');
    await runAndSync();
    scene.server.sendToWatches('{"type":"MODIFIED","obj\n{"type":"DELETED","object":{"metadata":{"name":"a"}}}\n');
    await untilRetry();
    await until(() => scene.server.watchCount === 1);
    grow('a', '2Gi');
    await until(() => sizes()['a'] === 2);
    expect(changes).toEqual(['+media/a', '~media/a']);
  });

  it('when a watch sends nothing but what is no event: by a list', async () => {
    scene.make('a');
    const isWatch = ({ query }: { query: URLSearchParams }) => query.has('watch');
    scene.server.inject({ fault: { kind: 'garbage', text: 'no\n' }, match: isWatch, times: 6 });
    run();
    for (let tries = 0; tries < 6; tries++) await untilRetry();
    await until(() => lists() === 2 && scene.server.watchCount === 1);
  });

  it('when the connection is half closed: nothing comes any more, and no error either', async () => {
    scene.make('a');
    await runAndSync();
    scene.server.muteWatches();
    grow('a', '2Gi');
    // Bookmarks come each minute, so three missing ones tell.
    scene.clock.advance(190_000);
    await untilRetry();
    await until(() => sizes()['a'] === 2);
    expect(lists()).toBe(1);
  });

  it('without taking a quiet watch for dead as long as there are bookmarks', async () => {
    await runAndSync();
    for (let minute = 0; minute < 6; minute++) {
      scene.server.sendBookmarks();
      await until(() => scene.clock.pending.includes(190_000));
      scene.clock.advance(60_000);
    }
    expect(watches()).toHaveLength(1);
  });

  it('when the API server forgets to end a watch', async () => {
    await runAndSync();
    for (let minute = 0; minute < 8; minute++) {
      await until(() => scene.clock.pending.includes(190_000));
      if (minute < 7) scene.clock.advance(60_000);
      if (minute < 7) scene.server.sendBookmarks();
    }
    scene.clock.advance(45_000);
    await untilRetry();
    expect(watches()).toHaveLength(2);
  });

  it('when lists fail at first, and are slow then', async () => {
    scene.make('a');
    scene.server.inject({ fault: { kind: 'status', status: 500 } });
    scene.server.inject({ fault: { kind: 'drop' }, times: 2 });
    scene.server.inject({ fault: { kind: 'hang' } });
    const gate = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise } });
    run();
    for (const ms of [750, 1500, 60_000, 3000]) {
      await until(() => scene.clock.pending[0] === ms, `a wait of ${ms} ms`);
      const asked = scene.server.requests.length;
      // The request that hangs has its answer awaited for a minute.
      scene.clock.advance(ms);
      if (ms !== 60_000) await until(() => scene.server.requests.length > asked);
    }
    expect(reflector.hasSynced).toBe(false);
    gate.resolve();
    await until(() => reflector.hasSynced);
    expect(Object.keys(sizes())).toEqual(['a']);
  });

  it('when the API server answers lists with nonsense', async () => {
    scene.make('a');
    for (const text of ['', 'null', '[]', '{"items":[]}', '{"metadata":{"resourceVersion":"v1"},"items":[{}]}']) {
      scene.server.inject({ fault: { kind: 'garbage', text } });
    }
    run();
    for (let tries = 0; tries < 5; tries++) await untilRetry();
    await until(() => reflector.hasSynced);
    expect(Object.keys(sizes())).toEqual(['a']);
  });

  it('when a list fails between its pages: nothing that is there is taken for deleted', async () => {
    for (let i = 0; i < 600; i++) scene.make(`n${i}`);
    await runAndSync();
    changes = [];
    const isSecondPage = ({ query }: { query: URLSearchParams }) => query.has('continue');
    scene.server.inject({ fault: { kind: 'status', status: 500 }, match: isSecondPage });
    scene.server.expireWatches();
    await until(() => scene.clock.pending.some((ms) => ms < 10_000));
    expect([reflector.cache.size, changes]).toEqual([600, []]);
    await untilRetry();
    await until(() => scene.server.watchCount === 1);
    expect([reflector.cache.size, changes]).toEqual([600, []]);
  });

  it('when its type is not there any more: the objects stay known until there is a list', async () => {
    scene.make('a');
    await runAndSync();
    scene.server.inject({ fault: { kind: 'status', status: 404, reason: 'NotFound' }, times: 3 });
    scene.server.expireWatches();
    await untilRetry();
    await untilRetry();
    expect(Object.keys(sizes())).toEqual(['a']);
  });

  it('when etcd was restored from a backup: the version that it knows is of a future that does not come', async () => {
    scene.make('a');
    await runAndSync();
    scene.server.inject({
      fault: {
        kind: 'status',
        status: 504,
        reason: 'Timeout',
        details: { causes: [{ reason: 'ResourceVersionTooLarge' }] },
      },
    });
    scene.clock.advance(5000);
    scene.server.endWatches();
    await untilRetry();
    await until(() => lists() === 2);
  });

  it('when the API server is overloaded: as late as it wants', async () => {
    scene.make('a');
    await runAndSync();
    scene.server.inject({ fault: { kind: 'status', status: 429, retryAfterSeconds: 20 }, times: 1 });
    scene.clock.advance(5000);
    scene.server.endWatches();
    await until(() => scene.clock.pending.includes(20_000));
    scene.clock.advance(20_000);
    await until(() => scene.server.watchCount === 1);
    expect(lists()).toBe(1);
  });

  it('without asking all the time when watches end as soon as they begin', async () => {
    const isWatch = ({ query }: { query: URLSearchParams }) => query.has('watch');
    scene.server.inject({ fault: { kind: 'garbage', text: '' }, match: isWatch, times: 20 });
    run();
    const delays: number[] = [];
    while (delays.length < 8) delays.push(await untilRetry());
    expect(delays).toEqual([750, 1500, 3000, 6000, 12_000, 24_000, 45_000, 45_000]);
    scene.server.heal();
  });

  it('whatever the wall clock does', async () => {
    scene.make('a');
    await runAndSync();
    scene.clock.jump(365 * 86_400_000);
    scene.clock.jump(-730 * 86_400_000);
    grow('a', '2Gi');
    await until(() => sizes()['a'] === 2);
    expect([lists(), watches().length]).toEqual([1, 1]);
  });
});

function levels(): string[] {
  return scene.logger.entries.map(({ level }) => level);
}

describe('an observer', () => {
  it('is told of each complete list, and of what failed; an expiry is no failure', async () => {
    const told: string[] = [];
    const observer = {
      observeList: ({ kind }: { kind: string }) => void told.push(`list of ${kind}`),
      observeWatchFailure: ({ kind }: { kind: string }) => void told.push(`failure of ${kind}`),
    };
    scene.server.inject({ fault: { kind: 'status', status: 500 } });
    run({ observer });
    await untilRetry();
    await until(() => scene.server.watchCount === 1);
    expect(told).toEqual(['failure of Thing', 'list of Thing']);
    scene.server.expireWatches();
    await until(() => lists() === 3 && scene.server.watchCount === 1);
    expect(told).toEqual(['failure of Thing', 'list of Thing', 'list of Thing']);
  });
});

describe('a reflector that is stopped', () => {
  it('stops at once, in a list as in a watch as between them', async () => {
    scene.server.inject({ fault: { kind: 'hang' } });
    run();
    await until(() => scene.server.requests.length === 1);
    abort.abort();
    await running;
    expect(reflector.hasSynced).toBe(false);
    await reflector.whenSynced(abort.signal);

    abort = new AbortController();
    await runAndSync();
    abort.abort();
    await running;
    await until(() => scene.server.watchCount === 0);

    abort = new AbortController();
    await scene.server.stop();
    run();
    await until(() => scene.logger.entries.length > 0);
    abort.abort();
    await running;
  });
});

describe('a reflector of a type that need not be there', () => {
  /** With the chance of these tests. */
  const lookDelays = [1100, 2200, 4400, 8800, 17_600, 35_200, 66_000];
  const types: FakeType[] = [];
  const failures: string[] = [];
  const observer = { observeList: () => {}, observeWatchFailure: ({ kind }: { kind: string }) => failures.push(kind) };
  const messages = () => scene.logger.entries.filter(({ level }) => level !== 'debug').map(({ message }) => message);

  beforeEach(async () => {
    await scene.stop();
    types.length = 0;
    failures.length = 0;
    scene = await startScene({ types });
  });

  /** Lets time go by until it looks again. @returns how long that took */
  async function untilLook(): Promise<number> {
    const delayOf = () => scene.clock.pending.find((ms) => lookDelays.includes(ms));
    await until(() => delayOf() !== undefined);
    const delayMs = delayOf() ?? 0;
    const before = lists();
    scene.clock.advance(delayMs);
    await until(() => lists() > before);
    return delayMs;
  }

  it('looks once a minute, says so once, and does not call it a failure', async () => {
    run({ optional: true, observer });
    const delays: number[] = [];
    for (let i = 0; i < 10; i++) delays.push(await untilLook());
    expect(delays).toEqual([...lookDelays, 66_000, 66_000, 66_000]);
    expect(messages()).toEqual(['going on without objects that cannot be had here']);
    expect([failures, reflector.hasSynced]).toEqual([[], false]);
  });

  it('has the objects as soon as it finds the type installed', async () => {
    run({ optional: true, observer });
    await untilLook();
    types.push(thingType);
    scene.make('a');
    await untilLook();
    await until(() => scene.server.watchCount === 1);
    scene.make('b');
    await until(() => Object.keys(sizes()).length === 2);
    expect(reflector.hasSynced).toBe(true);
    expect(messages()).toEqual(['going on without objects that cannot be had here', 'the objects can be had now']);
  });

  it('does the same where it may not list them', async () => {
    types.push(thingType);
    scene.server.inject({ fault: { kind: 'status', status: 403, reason: 'Forbidden' }, times: 2 });
    run({ optional: true, observer });
    expect(await untilLook()).toBe(1100);
    await untilLook();
    await until(() => scene.server.watchCount === 1);
    expect(failures).toEqual([]);
  });

  it('calls everything else a failure', async () => {
    types.push(thingType);
    scene.server.inject({ fault: { kind: 'status', status: 500 } });
    run({ optional: true, observer });
    await untilRetry();
    await until(() => scene.server.watchCount === 1);
    expect(failures).toEqual(['Thing']);
  });
});
