import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import type { ImportContext } from '../../src/transfer/import/import-request.ts';
import { type DetachedPool, expectPattern } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { importFrom, ImportPool, makeImage } from '../import-scene.ts';
import { processesNaming } from '../standalone.ts';

const compressions = ['gzip', 'xz', 'zstd'] as const;

function compress(command: string, bytes: Buffer): Buffer {
  return execFileSync(command, ['-c', '-1'], { input: bytes, maxBuffer: GiB });
}

/** What `head -c` makes of zeroes, compressed, without ever being whole in memory. */
function bomb(command: string, bytes: number): Buffer {
  return execFileSync('sh', ['-c', `head -c ${bytes} /dev/zero | ${command} -c -1`], { maxBuffer: GiB });
}

describe('importing what is compressed', () => {
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

  const left = () => pool.left();

  async function expectRefused(bytes: Buffer, message: RegExp, wish: { sizeBytes?: number } = {}): Promise<void> {
    const failed = importFrom(context, { url: server.put('/a', bytes), ...wish });
    await expect(failed).rejects.toMatchObject({ code: 'image-refused', message: expect.stringMatching(message) });
    expect([detached.pool.images.size, detached.pool.layers.size]).toEqual([0, 0]);
    expect(left()).toEqual([]);
    expect(await processesNaming(directory)).toEqual([]);
  }

  it.each(compressions.flatMap((command) => (['qcow2', 'raw'] as const).map((format) => [command, format] as const)))(
    'unpacks %s with a %s inside; the checksum is of the file as it came',
    async (command, format) => {
      const bytes = compress(command, makeImage(directory, format));
      const checksum = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
      const stages = new Set<string>();
      const onProgress = ({ stage }: { stage: string }) => void stages.add(stage);
      // Nothing in its name says what it is.
      const image = await importFrom(context, { url: server.put('/a', bytes), checksum, format, onProgress });
      expect(image).toMatchObject({ digest: checksum, sizeBytes: 16 * MiB });
      expect([...stages]).toEqual(['waiting', 'downloading', 'unpacking']);
      expectPattern(detached, image.layer, 0, 0, MiB);
      expectPattern(detached, image.layer, 0x41, MiB, 3 * MiB);
      expect(statSync(detached.pool.chainLayer(image.layer).path).blocks * 512).toBeLessThan(5 * MiB);
      expect(left()).toEqual([]);
      expect(await checkPool(detached.directory, () => {})).toMatchObject({ problems: [], leftovers: [] });
    },
  );

  it.each(compressions)('reads every part of a %s file that was made of several', async (command) => {
    const raw = makeImage(directory, 'raw');
    const parts = [raw.subarray(0, 2 * MiB), raw.subarray(2 * MiB)].map((part) => compress(command, part));
    const image = await importFrom(context, { url: server.put('/a', Buffer.concat(parts)) });
    expect(image.sizeBytes).toBe(16 * MiB);
    expectPattern(detached, image.layer, 0x41, MiB, 3 * MiB);
  });

  it('reads what pzstd makes, which begins with a frame to be skipped', async () => {
    const bytes = execFileSync('pzstd', ['-qc'], { input: makeImage(directory, 'raw'), maxBuffer: GiB });
    expect(bytes.readUInt32LE(0)).toBe(0x184d2a50);
    const image = await importFrom(context, { url: server.put('/a', bytes) });
    expect(image.sizeBytes).toBe(16 * MiB);
    expectPattern(detached, image.layer, 0x41, MiB, 3 * MiB);
  });

  it.each(compressions)('refuses %s that is cut off, damaged or followed by something else', async (command) => {
    const bytes = compress(command, makeImage(directory, 'raw'));
    await expectRefused(bytes.subarray(0, -5), /cannot be unpacked to its end/);
    const damaged = Buffer.from(bytes);
    damaged.fill(0xff, Math.floor(bytes.length / 2), Math.floor(bytes.length / 2) + 16);
    await expectRefused(damaged, /cannot be unpacked to its end/);
    await expectRefused(Buffer.concat([bytes, Buffer.from('something else')]), /cannot be unpacked to its end/);
    await expectRefused(bytes.subarray(0, 7), /cannot be unpacked to its end/);
  });

  it.each(compressions)('refuses %s of nothing, and of what is compressed again', async (command) => {
    await expectRefused(compress(command, Buffer.alloc(0)), /empty inside/);
    await expectRefused(compress(command, compress('gzip', makeImage(directory, 'raw'))), /inside of another/);
  });

  it.each(compressions)('ends a bomb of %s at the size that is asked for', async (command) => {
    await expectRefused(bomb(command, 512 * MiB), /unpacks to more than .*more than a disk of 1048576 bytes takes/, {
      sizeBytes: MiB,
    });
  });

  it('ends a bomb at the size of the pool where no size is asked for', async () => {
    const { space } = detached;
    const small = { ...(await space.space()), totalBytes: 64 * MiB };
    Object.defineProperty(space, 'space', { value: async () => small });
    await expectRefused(bomb('zstd', GiB), /unpacks to more than 64 MiB, as many as its pool has/);
  });

  it('ends at once when it is aborted, and unpacks anew the next time', async () => {
    const raw = makeImage(directory, 'raw');
    const url = server.put('/a', compress('xz', raw));
    const controller = new AbortController();
    const onProgress = ({ stage }: { stage: string }) => {
      if (stage === 'unpacking') controller.abort(new Error('enough'));
    };
    await expect(importFrom(context, { url, signal: controller.signal, onProgress })).rejects.toThrow('enough');
    expect(await processesNaming(directory)).toEqual([]);
    const image = await importFrom(context, { url });
    expectPattern(detached, image.layer, 0x41, MiB, 3 * MiB);
    expect(left()).toEqual([]);
    expect(server.requests).toHaveLength(1);
  });
});
