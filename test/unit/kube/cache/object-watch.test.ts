import { afterEach, beforeEach, expect, describe, it } from 'vitest';
import { ObjectWatch } from '../../../../src/kube/cache/object-watch.ts';
import { Reflector } from '../../../../src/kube/cache/reflector.ts';
import { type Scene, startScene, type Thing, thingType, until } from '../../../fakes/kube-scene.ts';

let scene: Scene;
let stop: AbortController;
let running: Promise<void>;
let reflector: Reflector<Thing>;

beforeEach(async () => {
  scene = await startScene();
  stop = new AbortController();
  const { client, clock, logger } = scene;
  reflector = new Reflector({ client, type: thingType, clock, random: () => 0, logger });
  running = reflector.run(stop.signal);
  await reflector.whenSynced(stop.signal);
});

afterEach(async () => {
  stop.abort();
  await running;
  await scene.stop();
});

const ref = { namespace: 'media', name: 'a' };
const read = async () => (await scene.things.get(ref)) ?? expect.unreachable();
const follow = () => new ObjectWatch(reflector, 'media/a');
const never = new AbortController().signal;
/** A verdict on the node that the object is given, or on its end. */
const judge = (thing: Thing | undefined) => (thing ? thing.spec.node : 'gone');

describe('a watch of one object', () => {
  it('shows the object as it is known, and each change until there is a verdict', async () => {
    using watch = follow();
    scene.make('a');
    const verdict = watch.until(await read(), judge, never);
    scene.server.objects.mergePatch(scene.at('a'), { spec: { size: '2Gi' } });
    scene.make('b', { node: 'x' });
    scene.server.objects.mergePatch(scene.at('a'), { spec: { node: 'y' } });
    expect(await verdict).toBe('y');
    expect(await watch.until(await read(), judge, never)).toBe('y');
  });

  it('sees an end that comes between its beginning and its first look', async () => {
    using watch = follow();
    scene.make('a');
    const known = await read();
    await until(() => reflector.cache.has('media/a'));
    scene.server.objects.remove(scene.at('a'));
    scene.make('a', { node: 'of another object' });
    await until(() => reflector.cache.get('media/a')?.metadata.uid !== known.metadata.uid);
    expect(watch.stateOf(known)).toBeUndefined();
    expect(await watch.until(known, judge, never)).toBe('gone');
    expect(await watch.until(await read(), judge, never)).toBe('of another object');
  });

  it('does not go back to what the cache learns late', async () => {
    await until(() => scene.server.watchCount === 1);
    scene.server.muteWatches();
    using watch = follow();
    scene.make('a', { node: 'x' });
    const changed = await scene.things.mergePatch(ref, { spec: { node: null } });
    // All of it is told now, one after the other.
    scene.server.dropWatches();
    await until(() => scene.clock.pending.includes(500));
    const verdict = watch.until(changed, judge, never);
    scene.clock.advance(500);
    await until(() => reflector.cache.get('media/a')?.spec.node === undefined && reflector.cache.has('media/a'));
    scene.server.objects.remove(scene.at('a'));
    expect(await verdict).toBe('gone');
  });

  it('does not take an object for gone that is not understood any more', async () => {
    using watch = follow();
    scene.make('a');
    const known = await read();
    await until(() => reflector.cache.has('media/a'));
    scene.server.objects.mergePatch(scene.at('a'), { spec: { size: 'huge' } });
    await until(() => scene.logger.entries.length > 0);
    expect(watch.stateOf(known)).toEqual(known);
  });

  it('ends without a verdict when its signal aborts, and leaves nothing behind', async () => {
    const abort = new AbortController();
    scene.make('a');
    const known = await read();
    {
      using watch = follow();
      const verdict = watch.until(known, judge, abort.signal);
      abort.abort();
      expect(await verdict).toBeUndefined();
      expect(await watch.until(known, judge, abort.signal)).toBeUndefined();
    }
    scene.server.objects.mergePatch(scene.at('a'), { spec: { node: 'y' } });
    await until(() => reflector.cache.get('media/a')?.spec.node === 'y');
  });
});
