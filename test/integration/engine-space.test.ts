import { randomBytes } from 'node:crypto';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { extendAllocated } from '../../src/host/fallocate.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { allocatedBytes, EngineBench, sh } from '../engine-bench.ts';
import { mountImage, unmount } from '../loop-filesystem.ts';

const size = 320 * MiB;

let bench: EngineBench;
beforeEach(() => {
  bench = new EngineBench();
});
afterEach(() => bench.close());

const ways = [
  { name: 'raw on a loop device', format: 'raw', viaEngine: false },
  { name: 'raw through the engine', format: 'raw', viaEngine: true },
  { name: 'qcow2', format: 'qcow2', viaEngine: false },
] as const;

/** As a user would make them: with mkfs's own wish to discard. */
const mkfs = { ext4: ['mkfs.ext4', '-q'], xfs: ['mkfs.xfs', '-q', '-f'], btrfs: ['mkfs.btrfs', '-q', '-f'] } as const;

describe.each(ways)('a preallocated disk, $name', ({ format, viaEngine }) => {
  it.each(['falloc', 'full'])('(%s) keeps its blocks through mkfs, fstrim and zeroing', async (preallocation) => {
    const attacher = await bench.attacher();
    const layer = bench.image(format, size, { preallocation });
    expect(allocatedBytes(layer.path)).toBeGreaterThanOrEqual(size);
    const request = { diskId: 'disk', chain: [layer], viaEngine, discard: false };
    const { path: device } = await attacher.attach(request);
    for (const [make, ...args] of Object.values(mkfs)) {
      sh(make, ...args, device);
      expect.soft(allocatedBytes(layer.path), make).toBeGreaterThanOrEqual(size);
      const mount = bench.mount(device);
      writeFileSync(path.join(mount, 'file'), randomBytes(32 * MiB));
      rmSync(path.join(mount, 'file'));
      sh('sync', '--file-system', mount);
      // Refused where the kernel knows that the device discards nothing; ignored below it otherwise.
      sh('sh', '-c', 'fstrim "$0" || true', mount);
      bench.unmount(mount);
      expect.soft(allocatedBytes(layer.path), `fstrim after ${make}`).toBeGreaterThanOrEqual(size);
    }
    sh('blkdiscard', '--force', '--zeroout', device);
    expect(allocatedBytes(layer.path)).toBeGreaterThanOrEqual(size);
    await attacher.detach(request);
  });
});

describe.each(ways)('a thin disk, $name', ({ format, viaEngine }) => {
  it('gives back what the file system discards', async () => {
    const attacher = await bench.attacher();
    const layer = bench.image(format, size);
    const request = { diskId: 'disk', chain: [layer], viaEngine, discard: true };
    const { path: device } = await attacher.attach(request);
    sh('mkfs.ext4', '-q', '-b', '4096', device);
    const mount = bench.mount(device);
    writeFileSync(path.join(mount, 'file'), randomBytes(64 * MiB));
    sh('sync', '--file-system', mount);
    expect(allocatedBytes(layer.path)).toBeGreaterThan(64 * MiB);
    rmSync(path.join(mount, 'file'));
    // ext4 trims what a finished transaction freed.
    sh('sync', '--file-system', mount);
    sh('fstrim', mount);
    bench.unmount(mount);
    await attacher.detach(request);
    expect(allocatedBytes(layer.path)).toBeLessThan(40 * MiB);
  });
});

it('a file for whose growth there is no room has its old size, and takes none of the room', async () => {
  const pool = mountImage(bench.directory, 'small', 'ext4', 64 * MiB);
  const file = path.join(pool, 'data.raw');
  sh('fallocate', '--length', String(8 * MiB), file);
  await expect(extendAllocated(file, 8 * MiB, 256 * MiB)).rejects.toMatchObject({ code: 'pool-full' });
  expect(statSync(file).size).toBe(8 * MiB);
  expect(allocatedBytes(file)).toBeLessThan(9 * MiB);
  unmount(pool);
});
