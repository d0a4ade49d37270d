import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import type { ImportContext } from '../../src/transfer/import/import-request.ts';
import type { ImportStep } from '../../src/transfer/layers/steps.ts';
import { type DetachedPool, openDetachedPool, removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { ImageRegistry, layerOf } from '../fakes/image-registry.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { importContained, importContext, importFrom, importUploaded } from '../import-scene.ts';
import { mountImage, unmount } from '../loop-filesystem.ts';
import { processesNaming } from '../standalone.ts';

describe('a pool that becomes full in the middle of an import gives the room back', () => {
  let directory: string;
  let root: string;
  let opened: DetachedPool;
  let server: ImageServer;
  /** 12 MiB of data that nothing makes smaller. */
  let raw: string;
  beforeEach(async () => {
    directory = temporaryDirectory();
    root = mountImage(directory, 'pool', 'ext4', 128 * MiB);
    opened = await openDetachedPool(root);
    // What is looked at before it is written is not what is tested here.
    opened.space.assertRoom = async () => {};
    server = await ImageServer.start();
    raw = path.join(directory, 'raw');
    writeFileSync(raw, randomBytes(12 * MiB));
  });
  afterEach(async () => {
    await server.close();
    await opened.release();
    unmount(root);
    removeDirectory(directory);
  });

  const filler = () => path.join(root, 'filler');
  const left = () => ['incoming', 'tmp'].flatMap((name) => readdirSync(path.join(root, name)));
  const made = (command: string) => execFileSync('sh', ['-c', command], { maxBuffer: GiB });

  /** With room for a part of it from that step on, and for all of it then. */
  async function expectFullThenMade(
    at: ImportStep,
    attempt: (context: ImportContext) => Promise<unknown>,
  ): Promise<void> {
    const fill = (step: string) => {
      const { bavail, bsize } = statfsSync(root);
      if (step === at) execFileSync('fallocate', ['-l', String(bavail * bsize - 4 * MiB), filler()]);
    };
    await expect(attempt(importContext(opened, fill))).rejects.toMatchObject({ code: 'pool-full' });
    expect([left(), opened.pool.images.size, opened.pool.layers.size]).toEqual([[], 0, 0]);
    expect(await processesNaming(directory)).toEqual([]);
    rmSync(filler());
    await attempt(importContext(opened));
    expect([left(), opened.pool.images.size]).toEqual([[], 1]);
    expect(await checkPool(root, () => {})).toMatchObject({ problems: [], leftovers: [] });
  }

  it('while it downloads', async () => {
    server.answer = (_, response) => Boolean(response.writeHead(200).end(readFileSync(raw)));
    const url = `${server.origin}/a`;
    await expectFullThenMade('import-image/begun', (context) => importFrom(context, { url, format: 'raw' }));
  });

  it('while somebody uploads', async () => {
    const wish = { file: raw, checksum: null, format: 'raw' } as const;
    await expectFullThenMade('import-image/begun', (context) => importUploaded(context, wish));
  });

  it('while it unpacks', async () => {
    const url = server.put('/a', made(`zstd -qc ${raw}`));
    await expectFullThenMade('import-image/downloaded', (context) => importFrom(context, { url, format: 'raw' }));
  });

  it('while it takes a file out of a container image', async () => {
    const registry = await ImageRegistry.start();
    try {
      registry.putImage('13', [await layerOf({ 'disk/a': readFileSync(raw) })]);
      const wish = { image: `${registry.repository}:13`, format: 'raw' } as const;
      await expectFullThenMade('import-image/downloaded', (context) => importContained(context, wish));
    } finally {
      await registry.close();
    }
  });

  it('while it converts', async () => {
    made(`qemu-img convert -f raw -O qcow2 -o compat=0.10 ${raw} ${raw}.qcow2`);
    const url = server.put('/a', readFileSync(`${raw}.qcow2`));
    await expectFullThenMade('import-image/accepted', (context) => importFrom(context, { url }));
  });
});
