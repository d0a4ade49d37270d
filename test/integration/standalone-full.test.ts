import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import { temporaryDirectory } from '../detached-pool.ts';
import { Ledger } from '../ledger.ts';
import { clearBelow } from '../leaks.ts';
import { mountImage } from '../loop-filesystem.ts';
import { ProvenPool } from '../proven-pool.ts';
import { type Standalone, startStandalone } from '../standalone.ts';

describe('a pool that is nearly full', () => {
  let proven: ProvenPool;
  let directory: string;
  let pool: string;
  let mounts: string;
  let plugin: Standalone;
  let ledger: Ledger;

  beforeAll(async () => {
    proven = await ProvenPool.make();
  });
  afterAll(() => proven.remove());
  beforeEach(() => {
    directory = temporaryDirectory();
    mounts = path.join(directory, 'mounts');
    proven.copyTo(directory);
    pool = mountImage(directory, 'pool', 'ext4', 512 * MiB);
    ledger = new Ledger();
  });
  afterEach(() => {
    // A frozen file system cannot be cleared away.
    spawnSync('fsfreeze', ['--unfreeze', path.join(mounts, 'v', 'staging')]);
    return clearBelow(directory);
  });

  /** Half of the critical mark are 51 MiB. */
  const start = async (args: string[] = []) => {
    const [socket, runDir] = [path.join(directory, 'csi.sock'), path.join(directory, 'run')];
    const marks = ['--overcommit', '100', '--critical', '20%'];
    plugin = await startStandalone({ pool, socket, runDir, args: [...marks, ...args] });
  };
  const startAgain = async (args: string[] = []) => {
    await plugin.kill9();
    await start(args);
  };
  const filler = () => path.join(pool, 'lost+found', 'filler');
  const fill = (leftBytes = 40 * MiB) => {
    const { bavail, bsize } = statfsSync(pool);
    execFileSync('fallocate', ['--length', String(bavail * bsize - leftBytes), filler()]);
  };
  const makeRoom = () => rmSync(filler());
  const healthOf = async (volumeId: string) => {
    const health = await plugin.client.node.nodeGetVolumeHealth({ volumeId });
    return JSON.stringify(health, (_, value) => (typeof value === 'bigint' ? String(value) : value));
  };
  const untilPaused = (volumeId: string) =>
    expect.poll(() => healthOf(volumeId), { timeout: 120_000 }).toContain('its pool is nearly full');
  const stateOf = ({ pid }: ChildProcess) => /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];

  it('has writers wait, through the end of the plugin too, and go on without an error when there is room', async () => {
    await start();
    const { client } = plugin;
    const volume = await client.createVolume({ name: 'v', sizeBytes: 256 * MiB });
    const target = await client.attach(volume, mounts);
    ledger.write(path.join(target, 'a'), 3 * MiB);
    await startAgain();
    fill();
    await untilPaused(volume.id);
    // What is there can be read.
    expect(ledger.differences(target, ['a'])).toEqual([]);
    await startAgain();
    expect(plugin.stderr()).toContain('thawed a file system left frozen');
    await untilPaused(volume.id);
    const writer = spawn('dd', ['if=/dev/urandom', `of=${target}/b`, 'bs=1M', 'count=100', 'conv=fsync']);
    const ended = once(writer, 'exit');
    await expect.poll(() => stateOf(writer)).toBe('D');
    makeRoom();
    expect(await ended).toEqual([0, null]);
    execFileSync('cp', [path.join(target, 'b'), path.join(directory, 'b')]);
    await plugin.client.detach(volume.id, mounts);
    const again = await plugin.client.attach(volume, mounts);
    execFileSync('cmp', [path.join(directory, 'b'), path.join(again, 'b')]);
    expect(ledger.differences(again, ['a'])).toEqual([]);
    await plugin.client.detach(volume.id, mounts);
    await nothingIsLeft();
  });

  it('has those wait who fill it, before it is full', async () => {
    const source = path.join(directory, 'source');
    writeFileSync(source, randomBytes(100 * MiB));
    await start();
    const volume = await plugin.client.createVolume({ name: 'v', sizeBytes: 256 * MiB });
    const target = await plugin.client.attach(volume, mounts);
    fill(80 * MiB);
    // At most 10 MiB a second: 51 MiB are left for the time that it takes to be paused.
    const write = 'dd if="$0" of="$1" bs=1M count=1 skip=$at seek=$at conv=notrunc,fsync status=none';
    const script = `at=0; while [ $at -lt 100 ]; do ${write} || exit 1; at=$((at + 1)); sleep 0.1; done`;
    const ended = once(spawn('bash', ['-c', script, source, path.join(target, 'b')]), 'exit');
    await untilPaused(volume.id);
    expect(statfsSync(pool).bavail).toBeGreaterThan(0);
    expect(await Promise.race([ended, Promise.resolve('waits')])).toBe('waits');
    makeRoom();
    expect(await ended).toEqual([0, null]);
    execFileSync('cmp', [source, path.join(target, 'b')]);
    await plugin.client.detach(volume.id, mounts);
    await nothingIsLeft();
  });

  it('lets volumes be unmounted that wait, be mounted again, and be deleted', async () => {
    await start();
    const volume = await plugin.client.createVolume({ name: 'v', sizeBytes: 64 * MiB });
    ledger.write(path.join(await plugin.client.attach(volume, mounts), 'a'), 3 * MiB);
    await startAgain();
    fill();
    await untilPaused(volume.id);
    await plugin.client.detach(volume.id, mounts);
    const target = await plugin.client.attach(volume, mounts);
    expect(ledger.differences(target, ['a'])).toEqual([]);
    ledger.write(path.join(target, 'b'), MiB);
    await plugin.client.detach(volume.id, mounts);
    await plugin.client.deleteVolume('v');
    makeRoom();
    await nothingIsLeft();
  });

  it('has nobody wait for longer than was said', async () => {
    await start();
    const volume = await plugin.client.createVolume({ name: 'v', sizeBytes: 64 * MiB });
    const target = await plugin.client.attach(volume, mounts);
    await startAgain(['--longest-pause', '1']);
    fill();
    await expect.poll(() => plugin.stderr(), { timeout: 120_000 }).toContain('no room was made');
    ledger.write(path.join(target, 'a'), MiB);
    expect(ledger.differences(target, ['a'])).toEqual([]);
    await plugin.client.detach(volume.id, mounts);
    makeRoom();
    await nothingIsLeft();
  });

  const nothingIsLeft = async () => {
    await plugin.stop();
    expect(await checkPool(pool, () => {})).toMatchObject({ problems: [], leftovers: [] });
  };
});
