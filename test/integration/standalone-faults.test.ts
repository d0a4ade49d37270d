import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { checkPool } from '../../src/store/check.ts';
import { temporaryDirectory } from '../detached-pool.ts';
import { Ledger } from '../ledger.ts';
import { clearBelow, leaksBelow } from '../leaks.ts';
import { mountImage } from '../loop-filesystem.ts';
import { ProvenPool } from '../proven-pool.ts';
import { processesNaming, type Standalone, startStandalone } from '../standalone.ts';

const lamina = path.resolve(import.meta.dirname, '../../bin/lamina');

describe('the standalone plugin, when something fails', () => {
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
    [pool, mounts] = [path.join(directory, 'pool'), path.join(directory, 'mounts')];
    proven.copyTo(directory);
    ledger = new Ledger();
  });
  afterEach(() => clearBelow(directory));

  const start = async (args: string[] = []) => {
    const [socket, runDir] = [path.join(directory, 'csi.sock'), path.join(directory, 'run')];
    plugin = await startStandalone({ pool, socket, runDir, args: ['--overcommit', '100', ...args] });
  };
  const nothingIsLeft = async () => {
    await plugin.stop();
    expect(await checkPool(pool, () => {})).toMatchObject({ problems: [], leftovers: [] });
  };
  const killProcess = async (what: string) => {
    const found = (await processesNaming(directory)).filter(({ command }) => command.includes(what));
    expect(found).toHaveLength(1);
    process.kill(found[0]?.pid as number, 'SIGKILL');
  };

  it('reports a volume whose storage daemon was killed, and brings it back with all that was fsynced', async () => {
    await start();
    const volume = await plugin.client.createVolume({ name: 'v', sizeBytes: 64 * MiB });
    const target = await plugin.client.attach(volume, mounts);
    ledger.write(path.join(target, 'a'), 3 * MiB);
    await killProcess('qemu-storage-daemon');
    const health = () => plugin.client.node.nodeGetVolumeHealth({ volumeId: volume.id });
    await expect
      .poll(
        async () => JSON.stringify(await health(), (_, value) => (typeof value === 'bigint' ? String(value) : value)),
        { timeout: 20_000 },
      )
      .toContain('daemon');
    await expect(
      plugin.client.node.nodeGetVolumeStats({ volumeId: volume.id, volumePath: target }),
    ).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
    await expect.poll(() => plugin.stderr(), { timeout: 20_000 }).toContain('the storage daemon of this disk failed');
    await plugin.client.detach(volume.id, mounts);
    expect(ledger.differences(await plugin.client.attach(volume, mounts), ['a'])).toEqual([]);
    await plugin.client.detach(volume.id, mounts);
    await nothingIsLeft();
  });

  it('goes on serving and staging volumes when the supervisor was killed', async () => {
    await start();
    const first = await plugin.client.createVolume({ name: 'first', sizeBytes: 64 * MiB });
    const target = await plugin.client.attach(first, mounts);
    await killProcess(' engine ');
    ledger.write(path.join(target, 'a'), 3 * MiB);
    const second = await plugin.client.createVolume({
      name: 'second',
      sizeBytes: 64 * MiB,
      source: { volumeId: first.id },
    });
    expect(ledger.differences(await plugin.client.attach(second, mounts), ['a'])).toEqual([]);
    for (const { id } of [first, second]) await plugin.client.detach(id, mounts);
    await nothingIsLeft();
    await expect.poll(() => leaksBelow(directory), { timeout: 20_000 }).toEqual([]);
  });

  it('is killed and started again under load, snapshots included, without one I/O error', async () => {
    await start();
    const volume = await plugin.client.createVolume({ name: 'v', sizeBytes: 256 * MiB });
    const target = await plugin.client.attach(volume, mounts);
    const job = [
      '--name=v',
      `--filename=${target}/data`,
      '--size=64M',
      '--rw=randrw',
      '--bs=4k',
      '--iodepth=8',
      '--ioengine=libaio',
    ];
    const verify = ['--direct=1', '--verify=crc32c', '--verify_fatal=1', '--time_based', '--runtime=12'];
    const fio = spawn('fio', [...job, ...verify], { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] });
    const output: Buffer[] = [];
    for (const stream of [fio.stdout, fio.stderr]) stream.on('data', (bytes: Buffer) => output.push(bytes));
    const ended = once(fio, 'exit');
    for (let round = 0; round < 3; round++) {
      await plugin.client.createSnapshot(volume.id, `s${round}`);
      await plugin.kill9();
      await start();
    }
    const [code] = await ended;
    expect(code, Buffer.concat(output).toString()).toBe(0);
    await plugin.client.detach(volume.id, mounts);
    await nothingIsLeft();
  });

  describe('on a small file system', () => {
    beforeEach(() => {
      pool = mountImage(directory, 'pool', 'ext4', 256 * MiB);
    });

    it('refuses what the pool has no room for, and always deletes', async () => {
      await start(['--critical', '10%']);
      const { client } = plugin;
      const thick = { format: 'raw', preallocation: 'full' };
      await expect(client.createVolume({ name: 'big', sizeBytes: 512 * MiB, parameters: thick })).rejects.toMatchObject(
        {
          code: status.RESOURCE_EXHAUSTED,
        },
      );
      const thin = await client.createVolume({ name: 'thin', sizeBytes: 512 * MiB });
      await client.createVolume({ name: 'thick', sizeBytes: 64 * MiB, parameters: thick });
      const before = await client.createSnapshot(thin.id, 'before');
      execFileSync(
        'dd',
        ['if=/dev/zero', `of=${path.join(pool, 'lost+found', 'most')}`, 'bs=1M', `count=${freeMiB() - 1}`],
        {
          stdio: 'ignore',
        },
      );
      await expect(client.createVolume({ name: 'more', sizeBytes: MiB })).rejects.toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
      });
      await expect(client.createSnapshot(thin.id, 'after')).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
      const { availableCapacity } = await client.controller.getCapacity({});
      expect(availableCapacity).toBe(0n);
      fillUp();
      await client.deleteSnapshot(before.id);
      await client.deleteVolume('thick');
      await client.deleteVolume(thin.id);
      giveBack();
      await client.createVolume({ name: 'more', sizeBytes: MiB });
      await client.deleteVolume('more');
      await nothingIsLeft();
    });

    it.each([
      ['the process', false],
      ['the machine, after which the self-test has no room', true],
    ])('starts, attaches and deletes on a pool without one free block after the end of %s', async (_, reboot) => {
      await start();
      const volume = await plugin.client.createVolume({ name: 'thin', sizeBytes: 64 * MiB });
      ledger.write(path.join(await plugin.client.attach(volume, mounts), 'a'), MiB);
      await plugin.client.detach(volume.id, mounts);
      await plugin.kill9();
      fillUp();
      if (reboot) {
        // The supervisor ends by itself when it has nothing to do.
        await expect.poll(() => processesNaming(directory), { timeout: 20_000 }).toEqual([]);
        rmSync(path.join(directory, 'run'), { recursive: true });
      }
      await start();
      expect(ledger.differences(await plugin.client.attach(volume, mounts), ['a'])).toEqual([]);
      await plugin.client.detach(volume.id, mounts);
      await plugin.client.deleteVolume('thin');
      giveBack();
      await nothingIsLeft();
    });

    const freeMiB = () => Math.floor((statfsSync(pool).bavail * statfsSync(pool).bsize) / MiB);
    /** Takes every block there is: one big file, and small ones where that finds no room any more. */
    const fillUp = () => {
      const filling = path.join(pool, 'lost+found');
      for (let file = 0; statfsSync(pool).bavail > 0; file++) {
        // It ends when the disk is full, which is what it is for.
        spawnSync('dd', ['if=/dev/zero', `of=${path.join(filling, `${file}.fill`)}`, 'bs=4k']);
      }
    };
    const giveBack = () => {
      for (const name of readdirSync(path.join(pool, 'lost+found'))) rmSync(path.join(pool, 'lost+found', name));
    };
  });

  it('refuses a damaged pool with a message that names the file, and exit code 8', async () => {
    await start();
    await plugin.client.createVolume({ name: 'v', sizeBytes: MiB });
    await plugin.stop();
    const record = path.join(pool, 'disks', 'v.json');
    writeFileSync(record, readFileSync(record, 'utf8').slice(0, 30));
    await expect(start()).rejects.toThrow(`[record-corrupt] ${record}`);
    expect(() => execFileSync(lamina, ['check', pool], { stdio: 'pipe' })).toThrow(
      expect.objectContaining({ status: 4 }),
    );
  });

  it('tells a second plugin who serves the pool', async () => {
    await start();
    const other = { pool, socket: path.join(directory, 'other.sock'), runDir: path.join(directory, 'run') };
    await expect(startStandalone(other)).rejects.toThrow(/\[pool-locked\].*"pid":/);
    await nothingIsLeft();
  });
});
