import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApiError } from '../../../src/kube/client/api-error.ts';
import { writeStatus } from '../../../src/kube/apply.ts';
import { Controller, type ControllerOptions, type Reconcile } from '../../../src/kube/controller.ts';
import { keyOf } from '../../../src/kube/objects.ts';
import { Reflector } from '../../../src/kube/cache/reflector.ts';
import { type Scene, startScene, type Thing, thingType, until } from '../../fakes/kube-scene.ts';

let scene: Scene;
let abort: AbortController;
let running: Promise<unknown>[];

beforeEach(async () => {
  scene = await startScene();
  abort = new AbortController();
  running = [];
});

afterEach(async () => {
  abort.abort();
  await Promise.all(running);
  await scene.stop();
  expect(scene.clock.pending, 'timers that are left').toEqual([]);
});

function makeController(reconcile: Reconcile, options: Partial<ControllerOptions> = {}): Controller {
  const { clock, logger } = scene;
  const common = { name: 'things', workers: 2, clock, random: () => 0, logger };
  return new Controller({ ...common, reconcile, ...options });
}

function start(controller: Controller): void {
  running.push(controller.run(abort.signal));
}

function reflect(): Reflector<Thing> {
  const { client, clock, logger } = scene;
  const reflector = new Reflector({ client, type: thingType, clock, random: () => 0, logger });
  running.push(reflector.run(abort.signal));
  return reflector;
}

const conflict = () => new ApiError('PUT /x: 409', { status: 409, reason: 'Conflict' });

describe('a controller', () => {
  it('reconciles what is there and what changes, by the keys of the object before and after', async () => {
    scene.make('a', { node: 'x' });
    const seen: string[] = [];
    const controller = makeController(async (key) => {
      seen.push(key);
      return 'done';
    });
    controller.watch(reflect(), ({ spec }) => (spec.node ? [spec.node] : []));
    start(controller);
    await until(() => seen.length === 1);
    scene.server.objects.mergePatch(scene.at('a'), { spec: { node: 'y' } });
    await until(() => seen.length === 3);
    scene.server.objects.remove(scene.at('a'));
    await until(() => seen.length === 4);
    expect(seen).toEqual(['x', 'x', 'y', 'y']);
  });

  it('does not begin before its caches are complete', async () => {
    for (let i = 0; i < 600; i++) scene.make(`n${i}`);
    const gate = Promise.withResolvers<void>();
    scene.server.inject({ fault: { kind: 'slow', until: gate.promise }, match: ({ query }) => query.has('continue') });
    const sizes = new Set<number>();
    const reflector = reflect();
    const controller = makeController(async () => {
      sizes.add(reflector.cache.size);
      return 'done';
    });
    controller.watch(reflector, ({ metadata }) => [keyOf(metadata)]);
    start(controller);
    await until(() => reflector.cache.size === 500);
    expect(sizes).toEqual(new Set());
    gate.resolve();
    await until(() => sizes.size > 0);
    expect(sizes).toEqual(new Set([600]));
  });

  it('works on as many keys at once as it has workers, and never twice on one', async () => {
    const gate = Promise.withResolvers<void>();
    const active: string[] = [];
    const controller = makeController(async (key) => {
      active.push(key);
      await gate.promise;
      return 'done';
    });
    start(controller);
    for (const key of ['a', 'a', 'b', 'c', 'a']) controller.enqueue(key);
    await until(() => active.length === 2);
    expect(active).toEqual(['a', 'b']);
    gate.resolve();
    await until(() => active.length === 4);
    expect(active).toEqual(['a', 'b', 'c', 'a']);
  });

  it('looks again after the time that a reconcile asks for', async () => {
    let times = 0;
    const controller = makeController(async () => (times++ < 2 ? { againAfterMs: 5000 } : 'done'));
    start(controller);
    controller.enqueueAfter('a', 1000);
    for (const ms of [1000, 5000, 5000]) {
      await until(() => scene.clock.pending.includes(ms));
      scene.clock.advance(ms);
    }
    await until(() => times === 3);
    expect(scene.clock.pending).toEqual([]);
  });
});

describe('a reconcile that fails', () => {
  it('is logged once and tried again, later each time, and its success is logged', async () => {
    let failures = 0;
    const controller = makeController(async () => {
      if (failures === 4) return 'done';
      failures++;
      throw new Error(failures < 4 ? 'the disk is full' : 'the disk is gone');
    });
    start(controller);
    controller.enqueue('a');
    for (const ms of [20, 40, 80, 160]) {
      await until(() => scene.clock.pending.includes(ms));
      scene.clock.advance(ms);
    }
    await until(() => scene.logger.entries.length === 5);
    expect(scene.logger.entries.map(({ level, fields }) => [level, fields['failures']])).toEqual([
      ['error', 1],
      ['debug', 2],
      ['debug', 3],
      ['error', 4],
      ['info', undefined],
    ]);
    failures = 3;
    controller.enqueue('a');
    await until(() => scene.clock.pending.includes(20));
  });

  it('does not stand in the way of others', async () => {
    const done: string[] = [];
    const controller = makeController(async (key) => {
      if (key === 'bad') throw new Error('no');
      done.push(key);
      return 'done';
    });
    start(controller);
    for (const key of ['bad', 'a', 'b']) controller.enqueue(key);
    await until(() => done.length === 2);
  });

  it('because of a conflict is normal: tried again, and no error', async () => {
    let times = 0;
    const results: string[] = [];
    const observer = {
      observeReconcile: ({ result }: { result: string }) => results.push(result),
      observeQueue: () => {},
    };
    const controller = makeController(
      async () => {
        if (times++ === 0) throw conflict();
        return 'done';
      },
      { observer },
    );
    start(controller);
    controller.enqueue('a');
    await until(() => scene.clock.pending.includes(20));
    scene.clock.advance(20);
    await until(() => results.length === 2);
    expect(results).toEqual(['conflict', 'done']);
    expect(scene.logger.entries.map(({ level }) => level)).toEqual(['debug']);
  });

  it('because the API server is overloaded is tried again when that wants it', async () => {
    const controller = makeController(async () => {
      throw new ApiError('429', { status: 429, retryAfterMs: 17_000 });
    });
    start(controller);
    controller.enqueue('a');
    await until(() => scene.clock.pending.includes(17_000));
  });

  it('without a promise is a failure like any other', async () => {
    const controller = makeController(() => {
      throw new TypeError('undefined is not a function');
    });
    start(controller);
    controller.enqueue('a');
    await until(() => scene.logger.entries.length === 1);
    expect(scene.logger.entries[0]).toMatchObject({ level: 'error', fields: { key: 'a', controller: 'things' } });
  });
});

describe('an observer that fails', () => {
  it('does not stop the work', async () => {
    const seen: string[] = [];
    const observer = {
      observeReconcile: () => {
        throw new Error('no such label');
      },
      observeQueue: () => {},
    };
    const reconcile = async (key: string) => {
      seen.push(key);
      return 'done' as const;
    };
    const controller = makeController(reconcile, { observer, workers: 1 });
    start(controller);
    for (const key of ['a', 'b']) controller.enqueue(key);
    await until(() => seen.length === 2);
  });
});

describe('a controller that is stopped', () => {
  it('interrupts what it works on, waits for its end, and begins nothing new', async () => {
    const seen: string[] = [];
    let isInterrupted = false;
    const controller = makeController(
      async (key, signal) => {
        seen.push(key);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        await new Promise((resolve) => setImmediate(resolve));
        isInterrupted = true;
        throw signal.reason;
      },
      { workers: 1 },
    );
    const run = controller.run(abort.signal);
    for (const key of ['a', 'b']) controller.enqueue(key);
    await until(() => seen.length === 1);
    abort.abort();
    await run;
    expect([isInterrupted, seen]).toEqual([true, ['a']]);
    controller.enqueue('c');
    controller.enqueueAfter('c', 10);
    expect(scene.logger.entries).toEqual([]);
  });

  it('before it began never works', async () => {
    await scene.server.stop();
    const controller = makeController(async () => expect.unreachable());
    controller.watch(reflect(), ({ metadata }) => [keyOf(metadata)]);
    controller.enqueue('a');
    start(controller);
    await until(() => scene.clock.pending.length > 0);
    abort.abort();
    await Promise.all(running);
  });
});

describe('a settled cluster', () => {
  /** A reconciler as they are: brings the status in line with the spec. */
  function control(reflector: Reflector<Thing>): Controller {
    const controller = makeController(async (key, signal) => {
      const thing = reflector.cache.get(key);
      if (!thing) return 'done';
      await writeStatus(scene.things, thing, { used: `${thing.spec.sizeGi}Gi`, phase: null }, { signal });
      return { againAfterMs: 60_000 };
    });
    controller.watch(reflector, ({ metadata }) => [keyOf(metadata)]);
    start(controller);
    return controller;
  }

  const usedOf = (name: string) =>
    (scene.server.objects.get(scene.at(name))['status'] as { used?: string } | undefined)?.used;

  it('gets no write: not from a look in time, a new list, a restart of the API server, or of the controller', async () => {
    for (let i = 0; i < 20; i++) scene.make(`n${i}`);
    const reflector = reflect();
    control(reflector);
    await until(() => reflector.cache.list().filter(({ status }) => status.used === 1).length === 20);
    expect(scene.server.writes).toHaveLength(20);

    scene.clock.advance(60_000);
    scene.server.expireWatches();
    await until(() => scene.server.watchCount === 1);
    await scene.server.stop();
    await scene.server.start();
    await until(() => scene.clock.pending.includes(500));
    scene.clock.advance(60_000);
    await until(() => scene.server.watchCount === 1);
    control(reflect());
    await until(() => scene.clock.pending.filter((ms) => ms === 60_000).length === 40);
    expect(scene.server.writes).toHaveLength(20);

    scene.server.objects.mergePatch(scene.at('n7'), { spec: { size: '2Gi' } });
    await until(() => usedOf('n7') === '2Gi');
    await until(() => reflector.cache.get('media/n7')?.status.used === 2);
  });

  it('is reached through conflicts, failures and lost answers, with the last word of the spec', async () => {
    const faults = [
      { kind: 'status', status: 500 },
      { kind: 'status', status: 409, reason: 'Conflict' },
      { kind: 'drop' },
      { kind: 'drop-after' },
      { kind: 'truncate' },
      { kind: 'garbage', text: '<html>' },
    ] as const;
    for (const fault of faults) scene.server.inject({ fault, match: ({ method }) => method === 'PATCH', times: 3 });
    for (let i = 0; i < 10; i++) scene.make(`n${i}`, { size: `${i + 1}Gi` });
    control(reflect());
    await until(() => {
      const next = scene.clock.pending.find((ms) => ms < 30_000);
      if (next !== undefined) scene.clock.advance(next);
      return Array.from({ length: 10 }, (_, i) => usedOf(`n${i}`) === `${i + 1}Gi`).every(Boolean);
    });
    const before = scene.server.writes.length;
    expect(before).toBeLessThanOrEqual(10 + 3 * faults.length);
  });
});
