import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { proveEngine } from '../../src/engine/attach/proof.ts';
import { runDirectory } from '../../src/engine/supervisor/run-directory.ts';
import { selectDataPath, selfTestDiskId } from '../../src/engine/attach/self-test.ts';
import { SupervisorClient } from '../../src/engine/supervisor/supervisor-client.ts';
import { hasKernelNbd } from '../../src/host/nbd.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { MemoryLogger } from '../fakes/memory-logger.ts';
import { EngineBench, safeDataPath, sh } from '../engine-bench.ts';

let bench: EngineBench;
let poolPath: string;
let logger: MemoryLogger;
beforeEach(() => {
  bench = new EngineBench();
  poolPath = path.join(bench.directory, 'pool');
  mkdirSync(poolPath);
  logger = new MemoryLogger();
});
afterEach(() => bench.close());

const select = async () =>
  selectDataPath({ client: await bench.ensureSupervisor(), runDir: bench.runDir, poolPath, logger });

/** Direct I/O over FUSE is wrong in QEMU 10.0.0 to 10.0.2. */
const qemu = sh('qemu-storage-daemon', '--version').match(/version ([0-9.]+)/)?.[1] ?? '';
const directIsWrong = /^10\.0\.[0-2]$/.test(qemu);

it(`takes the fastest way that is right with this QEMU (${qemu}), and leaves nothing behind`, async () => {
  const chosen = await select();
  const expected =
    directIsWrong && (await hasKernelNbd()) ? { backend: 'nbd' } : { backend: 'fuse', exportDirectIo: !directIsWrong };
  expect(chosen).toMatchObject({ ...expected, rawDirectIo: true, imageDirectIo: true });
  expect(readdirSync(path.join(poolPath, 'tmp'))).toEqual([]);
});

it('refuses direct I/O over FUSE with this QEMU every time', async (context) => {
  context.skip(!directIsWrong, 'direct I/O over FUSE is right with this QEMU');
  const attacher = await bench.attacher({ dataPath: { ...safeDataPath, exportDirectIo: true } });
  for (let turn = 0; turn < 20; turn++) {
    const directory = path.join(bench.directory, `scratch-${turn}`);
    mkdirSync(directory);
    const proof = proveEngine(attacher, { directory, diskId: selfTestDiskId, sizeBytes: 24 * MiB });
    await expect(proof, `turn ${turn}`).rejects.toMatchObject({ code: 'data-path-unsafe' });
    await attacher.detach({ diskId: selfTestDiskId, chain: [] });
  }
});

it('proves once per boot, and again after QEMU or the kernel changed', async () => {
  const chosen = await select();
  const proofs = () => logger.entries.filter((entry) => entry.message === 'data path chosen').length;
  expect(await select()).toEqual(chosen);
  expect(proofs()).toBe(1);
  const { dataPath } = runDirectory(bench.runDir);
  const cached = readFileSync(dataPath, 'utf8');
  writeFileSync(dataPath, cached.replace('QEMU', 'another QEMU').replace('qemu-storage-daemon version', 'version'));
  expect(await select()).toEqual(chosen);
  expect(proofs()).toBe(2);
});

it('clears what a test left that was killed in the middle', async () => {
  const scratch = path.join(poolPath, 'tmp', 'self-test');
  mkdirSync(scratch, { recursive: true });
  const attacher = await bench.attacher();
  const engineDisk = bench.image('qcow2', 8 * MiB);
  await attacher.attach({ diskId: selfTestDiskId, chain: [engineDisk], viaEngine: true, discard: true });
  const raw = { ...bench.image('raw', 8 * MiB), path: path.join(scratch, 'raw') };
  sh('truncate', '--size', '8M', raw.path);
  await attacher.attach({ diskId: 'other', chain: [raw], viaEngine: false, discard: true });
  await select();
  expect(existsSync(scratch)).toBe(false);
  expect(await attacher.daemonDiskIds()).toEqual([]);
});

it('refuses to serve where no way is right, and says why', async () => {
  const tools = path.join(bench.directory, 'tools');
  mkdirSync(tools);
  writeFileSync(path.join(tools, 'qemu-storage-daemon'), '#!/bin/sh\necho this one is broken\n[ "$1" = --version ]\n', {
    mode: 0o755,
  });
  const { PATH } = process.env;
  process.env['PATH'] = `${tools}:${PATH}`;
  await bench.ensureSupervisor().finally(() => {
    process.env['PATH'] = PATH;
  });
  await expect(select()).rejects.toMatchObject({
    code: 'data-path-unsafe',
    message: expect.stringContaining('this one is broken'),
  });
  expect(existsSync(runDirectory(bench.runDir).dataPath)).toBe(false);
  expect(readdirSync(path.join(poolPath, 'tmp'))).toEqual([]);
});

it('does not call a node unsafe because its supervisor is gone', async () => {
  await bench.ensureSupervisor();
  const client = new SupervisorClient(runDirectory(path.join(bench.directory, 'none')), { revive: null, scope: '' });
  await expect(selectDataPath({ client, runDir: bench.runDir, poolPath, logger })).rejects.toMatchObject({
    code: 'engine-unavailable',
  });
});
