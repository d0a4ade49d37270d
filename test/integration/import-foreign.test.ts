import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import type { ImportContext } from '../../src/transfer/import/import-request.ts';
import { type DetachedPool, expectPattern } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { importFrom, ImportPool, makeImage } from '../import-scene.ts';

describe("importing other programs' images", () => {
  let pool: ImportPool;
  let directory: string;
  let detached: DetachedPool;
  let context: ImportContext;
  let server: ImageServer;
  beforeEach(async () => {
    pool = await ImportPool.open();
    ({ directory, detached, context } = pool);
    server = await ImageServer.start();
  });
  afterEach(async () => {
    await server.close();
    await pool.remove();
  });

  async function expectImported(bytes: Buffer, format: 'qcow2' | 'raw', sizeBytes: number): Promise<void> {
    const image = await importFrom(context, { url: server.put('/a', bytes), format });
    expect(image.sizeBytes).toBe(sizeBytes);
    expectPattern(detached, image.layer, 0, 0, MiB);
    expectPattern(detached, image.layer, 0x41, MiB, 3 * MiB);
    expectPattern(detached, image.layer, 0, 4 * MiB, 12 * MiB);
    const { path: file, format: made } = detached.pool.chainLayer(image.layer);
    expect([made, statSync(file).mode & 0o777, statSync(file).uid]).toEqual([format, 0o444, 0]);
    expect(statSync(file).blocks * 512).toBeLessThan(5 * MiB);
    expect(await checkPool(detached.directory, () => {})).toMatchObject({ problems: [], leftovers: [] });
  }

  /** As qemu-img makes it of our image, for formats that cannot be written to in place. */
  function converted(format: string, options: string): Buffer {
    const file = path.join(directory, `converted.${format}`);
    execFileSync('qemu-img', ['create', '-q', '-f', 'raw', `${file}.raw`, '16M']);
    execFileSync('qemu-io', ['-f', 'raw', '-c', 'write -P 0x41 1M 3M', `${file}.raw`]);
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', format, '-o', options, `${file}.raw`, file]);
    return readFileSync(file);
  }

  it.each(['vmdk', 'vdi', 'vhdx'].flatMap((from) => (['qcow2', 'raw'] as const).map((to) => [from, to] as const)))(
    'converts %s to %s',
    async (from, to) => expectImported(makeImage(directory, from), to, 16 * MiB),
  );

  it.each([
    ['vmdk', 'subformat=streamOptimized'],
    ['vdi', 'static=on'],
    ['vhdx', 'subformat=fixed'],
  ])('converts %s with %s', async (format, options) => expectImported(converted(format, options), 'qcow2', 16 * MiB));

  it('converts what was compressed besides', async () => {
    const bytes = execFileSync('xz', ['-c', '-0'], { input: makeImage(directory, 'vdi') });
    await expectImported(bytes, 'raw', 16 * MiB);
  });
});
