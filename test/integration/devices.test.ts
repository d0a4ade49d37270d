import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { selectDataPath } from '../../src/engine/attach/self-test.ts';
import { ensureSupervisor } from '../../src/engine/supervisor/supervisor-client.ts';
import { findFault, fuseControl, loopControl } from '../../src/host/control-device.ts';
import { hasKernelNbd } from '../../src/host/nbd.ts';
import { EngineBench, supervisorCommand } from '../engine-bench.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { leaksBelow } from '../leaks.ts';
import { spawnStandalone } from '../standalone.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lamina-devices-'));
});
afterEach(async () => {
  expect(await leaksBelow(directory)).toEqual([]);
  await rm(directory, { recursive: true });
});

/** A command that runs another with this /dev/fuse hidden from it. */
const withoutFuse = ['unshare', '--mount', 'sh', '-c', 'mount --bind /dev/null /dev/fuse && exec "$@"', 'sh'] as const;

/** The same with a /dev that has no such file, as a container has that was started before the module was loaded. */
const withoutFile = [
  'unshare',
  '--mount',
  'sh',
  '-c',
  'own=$(mktemp -d) && mount -t tmpfs none "$own" && cp -a /dev/null /dev/zero /dev/urandom "$own" && mount --bind "$own" /dev && umount "$own" && rmdir "$own" && exec "$@"',
  'sh',
] as const;

describe('a device that disks are attached by', () => {
  it('has no fault on this machine', async () => {
    expect(await findFault(loopControl)).toBe(null);
    expect(await findFault(fuseControl)).toBe(null);
  });

  it('is to be brought into the container where only the file is missing, or another one has its name', async () => {
    const file = path.join(directory, 'fuse');
    const hidden = { ...fuseControl, path: file };
    const advice = "though the node's kernel has FUSE: mount the node's /dev into the container";
    expect(await findFault(hidden)).toBe(`${file} is missing, ${advice}`);
    writeFileSync(file, '');
    expect(await findFault(hidden)).toBe(`${file} is another file, ${advice}`);
    await rm(file);
    mkdirSync(file);
    expect(await findFault(hidden)).toBe(`${file} is another file, ${advice}`);
  });

  it('takes a module where the kernel does not have it', async () => {
    const file = path.join(directory, 'control');
    const unknown = { path: file, number: '10:9999', module: 'lamina-none', gives: 'loop devices' };
    expect(await findFault(unknown)).toBe(
      `${file} is missing, as the node's kernel has no loop devices: load the module on the node, at every start of it (modprobe lamina-none)`,
    );
  });
});

it('a machine without FUSE and NBD is told which is missing, and no pool is served', async (context) => {
  context.skip(await hasKernelNbd(), 'NBD would do');
  const pool = path.join(directory, 'pool');
  mkdirSync(pool);
  const places = { pool, socket: path.join(directory, 'csi.sock'), runDir: path.join(directory, 'run') };
  const lamina = path.resolve(import.meta.dirname, '../../bin/lamina');
  const standalone = spawnStandalone({ ...places, command: [...withoutFuse, lamina] });
  expect(await standalone.ended).toBe(8);
  standalone.client.close();
  expect(standalone.stderr()).toContain(
    "[device-missing] disks cannot be attached on this node: /dev/fuse is another file, though the node's kernel has FUSE",
  );
  expect(standalone.stderr()).toContain('(modprobe nbd)');
  // Its supervisor ends by itself when it has nothing to do.
  await expect.poll(() => leaksBelow(directory), { timeout: 30_000 }).toEqual([]);
});

it('an engine that does not see /dev/fuse is told apart from a QEMU that is wrong', async (context) => {
  context.skip(await hasKernelNbd(), 'NBD would do');
  const bench = new EngineBench();
  const poolPath = path.join(bench.directory, 'pool');
  mkdirSync(poolPath);
  try {
    const command = [...withoutFile, ...supervisorCommand] as const;
    const client = await ensureSupervisor({
      runDir: bench.runDir,
      command,
      idleExitSeconds: 600,
      logger: silentLogger,
    });
    const selecting = selectDataPath({ client, runDir: bench.runDir, poolPath, logger: silentLogger });
    await expect(selecting).rejects.toMatchObject({
      code: 'device-missing',
      message: expect.stringContaining("restart the engine's pod"),
    });
  } finally {
    await bench.close();
  }
});
