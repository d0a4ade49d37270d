import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { writeStatus } from '../../../src/kube/apply.ts';
import { Controller } from '../../../src/kube/controller.ts';
import { keyOf } from '../../../src/kube/objects.ts';
import { Reflector } from '../../../src/kube/cache/reflector.ts';
import type { FakeObject } from '../../fakes/api-objects.ts';
import type { Fault } from '../../fakes/api-server.ts';
import { type Scene, startScene, type Thing, thingType, until } from '../../fakes/kube-scene.ts';

const name = fc.constantFrom('a', 'b', 'c', 'd', 'e');
const fault = fc.constantFrom<Fault>(
  { kind: 'status', status: 500 },
  { kind: 'status', status: 409, reason: 'Conflict' },
  { kind: 'status', status: 410, reason: 'Expired' },
  { kind: 'status', status: 429, retryAfterSeconds: 2 },
  { kind: 'drop' },
  { kind: 'drop-after' },
  { kind: 'truncate' },
  { kind: 'hang' },
  { kind: 'garbage', text: '{"metadata":{}}\n' },
);
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('write' as const), name, size: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), name }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('fail' as const), fault, times: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 5000 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'endWatches' as const,
        'dropWatches' as const,
        'muteWatches' as const,
        'expireWatches' as const,
        'garbage' as const,
        'compact' as const,
        'bookmarks' as const,
        'stop' as const,
        'start' as const,
        'jump' as const,
      ),
    }),
  },
);

type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

describe('whatever happens, in whatever order', () => {
  it('the cache is what the API server has in the end, and the objects are as they are wanted', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const scene = await startScene();
        const abort = new AbortController();
        const { reflector, running } = control(scene, abort.signal);
        let isUp = true;
        for (const each of steps) {
          if (each.do === 'stop' && isUp) await scene.server.stop();
          if (each.do === 'start' && !isUp) await scene.server.start();
          if (each.do === 'stop' || each.do === 'start') isUp = each.do === 'start';
          perform(scene, each);
          await new Promise((resolve) => setImmediate(resolve));
        }
        if (!isUp) await scene.server.start();
        scene.server.heal();
        await until(() => {
          scene.clock.advance(1000);
          return isSettled(scene, reflector);
        });
        abort.abort();
        await Promise.all(running);
        await scene.stop();
        expect(scene.clock.pending).toEqual([]);
      }),
      { numRuns: 40 },
    );
  }, 120_000);
});

function control(scene: Scene, signal: AbortSignal): { reflector: Reflector<Thing>; running: Promise<void>[] } {
  const { client, clock, logger, things } = scene;
  const reflector = new Reflector({ client, type: thingType, clock, random: Math.random, logger });
  const controller = new Controller({
    name: 'things',
    workers: 2,
    clock,
    random: Math.random,
    logger,
    reconcile: async (key, interrupt) => {
      const thing = reflector.cache.get(key);
      if (thing) await writeStatus(things, thing, { used: `${thing.spec.sizeGi}Gi` }, { signal: interrupt });
      return 'done';
    },
  });
  controller.watch(reflector, ({ metadata }) => [keyOf(metadata)]);
  return { reflector, running: [reflector.run(signal), controller.run(signal)] };
}

function perform(scene: Scene, each: Step): void {
  const { server, clock } = scene;
  const all = () => server.objects.list(thingType);
  const isThere = (wanted: string) => all().some(({ metadata }) => metadata.name === wanted);
  if (each.do === 'write' && !isThere(each.name)) scene.make(each.name, { size: `${each.size}Gi` });
  else if (each.do === 'write') server.objects.mergePatch(scene.at(each.name), { spec: { size: `${each.size}Gi` } });
  else if (each.do === 'remove' && isThere(each.name)) server.objects.remove(scene.at(each.name));
  else if (each.do === 'fail') server.inject({ fault: each.fault, times: each.times });
  else if (each.do === 'wait') clock.advance(each.ms);
  else if (each.do === 'endWatches') server.endWatches();
  else if (each.do === 'dropWatches') server.dropWatches();
  else if (each.do === 'muteWatches') server.muteWatches();
  else if (each.do === 'expireWatches') server.expireWatches();
  else if (each.do === 'garbage') server.sendToWatches('{"type":"DELETED"}\n');
  else if (each.do === 'compact') server.objects.compact();
  else if (each.do === 'bookmarks') server.sendBookmarks();
  else if (each.do === 'jump') clock.jump(-86_400_000);
}

function isSettled({ server }: Scene, reflector: Reflector<Thing>): boolean {
  const objects = server.objects.list(thingType);
  const known = reflector.cache.list();
  const used = ({ spec, status }: FakeObject) =>
    (spec as { size: string }).size === (status as { used?: string } | undefined)?.used;
  const isKnown = ({ metadata }: FakeObject) =>
    known.some((thing) => thing.metadata.resourceVersion === metadata.resourceVersion);
  return known.length === objects.length && objects.every((object) => used(object) && isKnown(object));
}
