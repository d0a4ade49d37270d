import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { unallocatedBytes } from '../../src/engine/staging/unallocated.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { type AssembledPool, assemblePool, endPool } from '../assembled-pool.ts';
import { temporaryDirectory, thin } from '../detached-pool.ts';
import { ProvenPool } from '../proven-pool.ts';

let proven: ProvenPool;
let directory: string;
let lamina: AssembledPool;

beforeAll(async () => {
  proven = await ProvenPool.make();
});
afterAll(() => proven.remove());
beforeEach(async () => {
  directory = temporaryDirectory();
  proven.copyTo(directory);
  lamina = await assemblePool(path.join(directory, 'pool'), path.join(directory, 'run'));
});
afterEach(() => endPool(lamina, directory));

const unallocated = () => unallocatedBytes(lamina.pool, (diskId) => lamina.attachments.attachment(diskId));

it.each(['ext4', 'xfs'])('files of a mounted %s take space before they are written', async (fsType) => {
  const size = { requiredBytes: 512 * MiB, limitBytes: 0 };
  await lamina.disks.create({ name: 'a', size, options: thin, source: null });
  const { path: device } = await lamina.attachments.attach('a');
  expect(await unallocated()).toBe(0);
  execFileSync(`mkfs.${fsType}`, ['-q', device]);
  const mount = path.join(directory, 'mount');
  mkdirSync(mount);
  execFileSync('mount', [device, mount]);
  try {
    execFileSync('sync', ['--file-system', mount]);
    // An xfs keeps some blocks for itself.
    const before = await unallocated();
    let files = 0;
    const afterOneMore = () => {
      writeFileSync(path.join(mount, String(files++)), randomBytes(16 * MiB));
      return unallocated();
    };
    // Whatever has been written out at once for others who cache a lot.
    await expect.poll(afterOneMore).toBeGreaterThan(before + 8 * MiB);
    execFileSync('sync', ['--file-system', mount]);
    expect(await unallocated()).toBeLessThan(before + 2 * MiB);
  } finally {
    execFileSync('umount', [mount]);
  }
});
