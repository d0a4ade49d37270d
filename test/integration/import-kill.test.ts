import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { checkPool } from '../../src/store/check.ts';
import { imageSteps } from '../../src/store/steps.ts';
import { importSteps } from '../../src/transfer/layers/steps.ts';
import { openDetachedPool, removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { ImageRegistry, layerOf } from '../fakes/image-registry.ts';
import { ImageServer } from '../fakes/image-server.ts';
import type { ImportFixture } from '../fixtures/import-node.ts';
import { importContained, importContext, importFrom, importUploaded } from '../import-scene.ts';
import { processesNaming } from '../standalone.ts';

const fixture = path.join(import.meta.dirname, '../fixtures/import-node.ts');
const createSteps = listSteps({ 'create-image': imageSteps['create-image'] });

let sources: string;
let directory: string;
let server: ImageServer;
/** What is imported, as a guest sees it: more than is recorded at a time, and not to be compressed. */
let disk: string;
/** A layer of a container image with it. */
let contained: Buffer;
beforeAll(async () => {
  sources = temporaryDirectory();
  disk = path.join(sources, 'disk.raw');
  execFileSync('sh', ['-c', `head -c 80M /dev/urandom >${disk} && truncate -s 96M ${disk}`]);
  execFileSync('zstd', ['-q', '-1', disk, '-o', `${disk}.zst`]);
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', disk, `${disk}.qcow2`]);
  contained = await layerOf({ 'disk/a': readFileSync(disk) });
});
afterAll(() => removeDirectory(sources));
beforeEach(async () => {
  directory = temporaryDirectory();
  mkdirSync(path.join(directory, 'pool'));
  server = await ImageServer.start();
});
afterEach(async () => {
  await server.close();
  removeDirectory(directory);
});

/** @returns the signal that ended the process, or null where it came to its end */
function runUntil(options: ImportFixture): Promise<string | null> {
  const file = path.join(directory, 'options.json');
  writeFileSync(file, JSON.stringify(options));
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [fixture, file], (error, _, stderr) => {
      if (error && !error.signal) reject(new Error(stderr, { cause: error }));
      else resolve(error?.signal ?? null);
    });
  });
}

/** Imports in a process that is killed, and again in this one. */
async function importTwice(suffix: string, format: 'qcow2' | 'raw', killAt: string): Promise<void> {
  const pool = path.join(directory, 'pool');
  const bytes = readFileSync(disk + suffix);
  const checksum = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const wish = { url: server.put('/a', bytes), checksum, format };
  expect(await runUntil({ pool, wish, killAt }), `${killAt} was never reached`).toBe('SIGKILL');
  await expect.poll(() => processesNaming(directory)).toEqual([]);

  const before = server.requests.length;
  const opened = await openDetachedPool(pool);
  try {
    // Nothing names what was half made, and nothing of it is in the way.
    expect(opened.pool.images.size).toBe(killAt === 'create-image/image-recorded' ? 1 : 0);
    expect(opened.pool.layers.size).toBe(opened.pool.images.size);
    expect(readdirSync(path.join(pool, 'tmp'))).toEqual([]);
    const image = await importFrom(importContext(opened), wish);
    const { path: file, format: made } = opened.pool.chainLayer(image.layer);
    execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', made, disk, file]);
    expect(image).toMatchObject({ digest: checksum, sizeBytes: 96 * MiB });
    expect(made).toBe(format);
    expect(readdirSync(path.join(pool, 'incoming'))).toEqual([]);
    expect(await checkPool(pool, () => {})).toMatchObject({ layers: 1, images: 1, problems: [], leftovers: [] });
  } finally {
    await opened.release();
  }
  const again = server.requests.slice(before);
  if (killAt === 'import-image/progressed') expect(again[0]?.headers.range).toMatch(/^bytes=6\d{7}-$/);
  else expect(again).toHaveLength(killAt === 'import-image/begun' || wasMoved(suffix, killAt) ? 1 : 0);
}

/** The download itself has become a layer that nothing names yet, and went with that. */
function wasMoved(suffix: string, killAt: string): boolean {
  return suffix === '.qcow2' && ['create-image/layer-built', 'create-image/layer-published'].includes(killAt);
}

it.each([...listSteps(importSteps), 'converting', ...createSteps])(
  'killed at %s of a compressed raw disk, another process goes on and has the same bytes',
  (killAt) => importTwice('.zst', 'qcow2', killAt),
);

it.each(['import-image/progressed', 'import-image/accepted', ...createSteps])(
  'killed at %s of a qcow2 that is taken as it is, another process goes on and has the same bytes',
  (killAt) => importTwice('.qcow2', 'qcow2', killAt),
);

it.each(listSteps(importSteps))(
  'killed at %s of a disk in a container image, another process goes on and has the same bytes',
  async (killAt) => {
    const pool = path.join(directory, 'pool');
    const registry = await ImageRegistry.start();
    try {
      const digest = registry.putImage('13', [contained]);
      const wish = { image: `${registry.repository}:13`, format: 'raw' } as const;
      expect(await runUntil({ pool, wish, killAt }), `${killAt} was never reached`).toBe('SIGKILL');
      const before = registry.requests.length;
      const opened = await openDetachedPool(pool);
      try {
        expect([opened.pool.images.size, opened.pool.layers.size]).toEqual([0, 0]);
        const image = await importContained(importContext(opened), wish);
        expect(image).toMatchObject({ digest, sizeBytes: 96 * MiB });
        execFileSync('cmp', [disk, opened.pool.chainLayer(image.layer).path]);
        expect(readdirSync(path.join(pool, 'incoming'))).toEqual([]);
        expect(await checkPool(pool, () => {})).toMatchObject({ layers: 1, images: 1, problems: [], leftovers: [] });
      } finally {
        await opened.release();
      }
      const blobs = registry.requests.slice(before).filter(({ path: asked }) => asked.includes('/blobs/'));
      if (killAt === 'import-image/progressed') expect(blobs[0]?.range).toMatch(/^bytes=6\d{7}-$/);
      else expect(blobs).toHaveLength(killAt === 'import-image/begun' ? 1 : 0);
    } finally {
      await registry.close();
    }
  },
);

it.each([...listSteps(importSteps), ...createSteps])(
  'killed at %s of an upload, another process goes on with what has come, and has the same bytes',
  async (killAt) => {
    const pool = path.join(directory, 'pool');
    const file = `${disk}.zst`;
    const checksum = `sha256:${createHash('sha256').update(readFileSync(file)).digest('hex')}`;
    const wish = { file, checksum, format: 'qcow2' } as const;
    expect(await runUntil({ pool, wish, killAt }), `${killAt} was never reached`).toBe('SIGKILL');
    const opened = await openDetachedPool(pool);
    try {
      const image = await importUploaded(importContext(opened), wish);
      expect(image).toMatchObject({ digest: checksum, sizeBytes: 96 * MiB });
      const { path: made, format } = opened.pool.chainLayer(image.layer);
      execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', format, disk, made]);
      expect(readdirSync(path.join(pool, 'incoming'))).toEqual([]);
      expect(await checkPool(pool, () => {})).toMatchObject({ layers: 1, images: 1, problems: [], leftovers: [] });
    } finally {
      await opened.release();
    }
  },
);
