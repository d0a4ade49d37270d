import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import { imageSteps } from '../../src/store/steps.ts';
import { importSteps } from '../../src/transfer/steps.ts';
import { expectPattern, openDetachedPool, removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { importContext, importFrom, makeImage } from '../import-scene.ts';

let directory: string;
let pool: string;
let server: ImageServer;
beforeEach(async () => {
  directory = temporaryDirectory();
  pool = path.join(directory, 'pool');
  mkdirSync(pool);
  server = await ImageServer.start();
});
afterEach(async () => {
  await server.close();
  removeDirectory(directory);
});

const fixture = path.join(import.meta.dirname, '../fixtures/import-image.ts');

/** @returns the signal that ended it, or null where it came to its end */
function runUntil(step: string, url: string): Promise<string | null> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [fixture, pool, url, step], (error, _, stderr) => {
      if (error && !error.signal) reject(new Error(stderr, { cause: error }));
      else resolve(error?.signal ?? null);
    });
  });
}

const steps = [...listSteps(importSteps), ...listSteps({ 'create-image': imageSteps['create-image'] })];

it.each(steps)(
  'killed at %s, another process goes on, and what comes of it is whole',
  { timeout: 60_000 },
  async (step) => {
    // Compressed, and with a part that cannot be, so that it comes in more than one go.
    const noise = gzipSync(Buffer.concat([makeImage(directory, 'raw'), randomBytes(80 * MiB)]), { level: 1 });
    const url = server.put('/image', noise);
    expect(await runUntil(step, url), `${step} was never reached`).toBe('SIGKILL');
    const opened = await openDetachedPool(pool);
    expect(await checkPool(pool, () => {})).toMatchObject({ problems: [], leftovers: [] });
    // Nothing half-made is an image.
    const before = [...opened.pool.images.values()];
    expect(before.length).toBe(step === 'create-image/image-recorded' ? 1 : 0);
    const image = await importFrom(importContext(opened), { url });
    expectPattern(opened, image.layer, 0, 0, MiB);
    expectPattern(opened, image.layer, 0x41, MiB, 3 * MiB);
    expect(['incoming', 'tmp'].flatMap((name) => readdirSync(path.join(pool, name)))).toEqual([]);
    await opened.images.delete(image.id);
    await opened.compactor.settled();
    await opened.release();
    expect(await checkPool(pool, () => {})).toMatchObject({ layers: 0, images: 0, problems: [], leftovers: [] });
  },
);
