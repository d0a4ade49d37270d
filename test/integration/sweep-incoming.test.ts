import { randomBytes } from 'node:crypto';
import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, type Mock, vi } from 'vitest';
import { LaminaError } from '../../src/lib/errors.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { IncomingSweeper, type IncomingSweeperOptions } from '../../src/reconcile/node/sweep-incoming.ts';
import { ensureIncoming } from '../../src/store/incoming.ts';
import { imageIdOf } from '../../src/store/ids.ts';
import { removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { NodeScene, systemNamespace } from '../node-scene.ts';

const hourMs = 3_600_000;
let directory: string;
let scene: NodeScene;
let images: { cache: NodeScene['images']; hasSynced: boolean };
let sweeper: IncomingSweeper;
/** Asked for what came of layers. */
let layers: Mock<IncomingSweeperOptions['removeAbandonedLayers']>;

beforeEach(async () => {
  directory = temporaryDirectory();
  scene = await NodeScene.start(directory);
  images = { cache: scene.images, hasSynced: true };
  const served = () => scene.context.pools.served;
  layers = vi.fn<IncomingSweeperOptions['removeAbandonedLayers']>(async () => []);
  const { clock } = scene;
  sweeper = new IncomingSweeper({
    images,
    systemNamespace,
    served,
    removeAbandonedLayers: layers,
    clock,
    logger: silentLogger,
  });
});
afterEach(async () => {
  await scene.stop();
  removeDirectory(directory);
});

const id = (name: string) => imageIdOf(`media/${name}`);
const left = () => readdirSync(path.join(directory, 'incoming')).sort();

/** What an import that broke off has left, of an object or not. */
async function leave(name: string, ageHours = 25): Promise<string> {
  const made = await ensureIncoming(scene.detached.pool, name);
  writeFileSync(path.join(made, 'download'), 'half');
  const at = new Date(scene.clock.now().getTime() - ageHours * hourMs);
  utimesSync(made, at, at);
  return name;
}

it('removes what has come for a DiskImage that vanished, when nobody wanted it twice', async () => {
  await leave(`image_${id('gone')}`);
  await sweeper.sweep();
  expect(left()).toHaveLength(1);
  await sweeper.sweep();
  expect(left()).toEqual([]);
});

it('sweeps once an hour, until it is stopped', async () => {
  await leave(`image_${id('gone')}`);
  const stop = new AbortController();
  const running = sweeper.run(stop.signal);
  for (const expected of [1, 0]) {
    await expect.poll(() => scene.clock.pending).toContain(hourMs);
    scene.clock.advance(hourMs);
    await expect.poll(() => left()).toHaveLength(expected);
  }
  stop.abort();
  await running;
  expect(scene.clock.pending).toEqual([]);
});

it('leaves alone what is young, what is no image, and what an object may need that is understood or not', async () => {
  scene.declareImage('mine', { size: undefined, source: { type: 'upload', upload: {} } });
  await scene.reconcileImage('mine');
  const invalid = new LaminaError('resource-invalid', 'of a newer version');
  scene.images.put({ key: 'media/newer', resourceVersion: '1', invalid });
  const kept = [
    await leave(`image_${id('young')}`, 23),
    await leave(`image_${id('mine')}`),
    await leave(`image_${id('newer')}`),
    await leave('layer_l0123456789abcdef01234567'),
    await leave('other'),
  ];
  for (let times = 0; times < 3; times++) await sweeper.sweep();
  expect(left()).toEqual(kept.sort());
});

it('removes nothing before all objects were seen', async () => {
  images.hasSynced = false;
  await leave(`image_${id('gone')}`);
  for (let times = 0; times < 3; times++) await sweeper.sweep();
  expect(left()).toHaveLength(1);
});

it('has layers removed that nobody has gone on with for a day, and goes on where that fails', async () => {
  layers.mockRejectedValueOnce(new Error('EIO'));
  await leave(`image_${id('gone')}`);
  for (let times = 0; times < 2; times++) await sweeper.sweep();
  const [pool] = scene.context.pools.served;
  const dayAgo = new Date(scene.clock.now().getTime() - 24 * hourMs);
  expect(layers.mock.calls).toEqual([
    [pool, dayAgo],
    [pool, dayAgo],
  ]);
  expect(left()).toEqual([]);
});

it('begins anew with what was wanted in between', async () => {
  await leave(`image_${id('back')}`);
  await sweeper.sweep();
  const invalid = new LaminaError('resource-invalid', 'of a newer version');
  scene.images.put({ key: 'media/back', resourceVersion: '1', invalid });
  await sweeper.sweep();
  scene.images.remove('media/back');
  await sweeper.sweep();
  expect(left()).toHaveLength(1);
  await sweeper.sweep();
  expect(left()).toEqual([]);
});

it('leaves alone what is worked on at this moment, and does not wait for it', async () => {
  await leave(`image_${id('gone')}`);
  const { promise, resolve } = Promise.withResolvers<void>();
  const working = scene.detached.images.lock(id('gone'), () => promise);
  for (let times = 0; times < 3; times++) await sweeper.sweep();
  expect(left()).toHaveLength(1);
  resolve();
  await working;
});

it('removes at once what a killed process left of an image that it had made', async () => {
  const server = await ImageServer.start();
  try {
    const url = server.put('/a', randomBytes(MiB));
    scene.declareImage('made', { size: undefined, format: 'raw', source: { type: 'http', http: { url } } });
    await expect
      .poll(async () => {
        await scene.reconcileImage('made');
        return scene.detached.pool.images.has(id('made'));
      })
      .toBe(true);
    await expect.poll(() => left()).toEqual([]);
    await leave(`image_${id('made')}`, 0);
    await sweeper.sweep();
    expect(left()).toEqual([]);
  } finally {
    await server.close();
  }
});
