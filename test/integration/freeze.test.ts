import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/engine/attach/attachment.ts';
import { DeviceFreezer } from '../../src/engine/staging/device-freezer.ts';
import { thawMarked, withFrozen } from '../../src/engine/staging/freeze-marks.ts';
import type { FreezeStep } from '../../src/engine/staging/staging-steps.ts';
import { freeze, holdMount, thaw } from '../../src/host/freeze.ts';
import { type Mount, readMounts } from '../../src/host/mountinfo.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { MemoryLogger } from '../fakes/memory-logger.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { block, btrfs, ext4, StagingScene, xfs } from '../staging-scene.ts';

let scene: StagingScene;
beforeEach(() => {
  scene = new StagingScene();
});
afterEach(async () => {
  for (const mount of await scene.mountsBelow()) spawnSync('fsfreeze', ['--unfreeze', mount]);
  await scene.close();
});

interface Staged {
  diskId: string;
  device: BlockDevice;
  mount: Mount;
  mounts: Mount[];
}

async function staged(diskId: string, access = ext4): Promise<Staged> {
  scene.disks.create(diskId, 320 * MiB);
  await scene.stage(diskId, access);
  const device = (await scene.disks.attachment(diskId))?.device;
  const mount = (await readMounts()).find((found) => found.mountPoint === scene.stagingPath(diskId));
  if (!device || !mount) throw new Error(`${diskId} is not staged`);
  return { diskId, device, mount, mounts: [mount] };
}

/** Without changing it. */
function isFrozen(mountPoint: string): boolean {
  const { status } = spawnSync('fsfreeze', ['--freeze', mountPoint], { stdio: 'ignore' });
  if (status === 0) execFileSync('fsfreeze', ['--unfreeze', mountPoint]);
  return status !== 0;
}

function marks(): string[] {
  const directory = scene.at('run', 'frozen');
  return existsSync(directory) ? readdirSync(directory) : [];
}

const request = (targets: Staged[], work: () => Promise<void>) => ({
  targets,
  runDir: scene.at('run'),
  work,
  checkpoint: (_: FreezeStep) => {},
});

describe('freezing', () => {
  it.each([
    ['ext4', ext4],
    ['xfs', xfs],
    ['btrfs', btrfs],
  ] as const)('stops a %s while work is done, and no longer', async (_, access) => {
    const target = await staged('d', access);
    const steps: string[] = [];
    const stillMs = await withFrozen({
      ...request([target], async () => {
        expect(isFrozen(target.mount.mountPoint)).toBe(true);
        expect(marks()).toHaveLength(1);
        await expect(scene.unstage('d')).rejects.toMatchObject({ code: 'disk-in-use' });
      }),
      checkpoint: (step) => steps.push(step),
    });
    expect(stillMs).toBeGreaterThan(0);
    expect(steps).toEqual(['freeze/marked', 'freeze/frozen', 'freeze/work-done', 'freeze/thawed', 'freeze/unmarked']);
    expect(isFrozen(target.mount.mountPoint)).toBe(false);
    expect(marks()).toEqual([]);
    writeFileSync(path.join(target.mount.mountPoint, 'file'), 'goes on', { flush: true });
    await scene.unstage('d');
  });

  it('ends when the work fails, with its error', async () => {
    const target = await staged('d');
    const work = () => Promise.reject(new Error('the work failed'));
    await expect(withFrozen(request([target], work))).rejects.toThrow('the work failed');
    expect(isFrozen(target.mount.mountPoint)).toBe(false);
    expect(marks()).toEqual([]);
    await scene.unstage('d');
  });

  it('stops several disks at once', async () => {
    const targets = [await staged('a'), await staged('b', xfs)];
    await withFrozen(
      request(targets, async () => {
        expect(targets.map(({ mount }) => isFrozen(mount.mountPoint))).toEqual([true, true]);
        expect(marks()).toHaveLength(2);
      }),
    );
    expect(targets.map(({ mount }) => isFrozen(mount.mountPoint))).toEqual([false, false]);
    await scene.unstage('a');
    await scene.unstage('b');
  });

  it('leaves a file system frozen that somebody else froze, and no mark of it', async () => {
    const target = await staged('d');
    execFileSync('fsfreeze', ['--freeze', target.mount.mountPoint]);
    await withFrozen(request([target], async () => expect(marks()).toEqual([])));
    expect(isFrozen(target.mount.mountPoint)).toBe(true);
    execFileSync('fsfreeze', ['--unfreeze', target.mount.mountPoint]);
    await scene.unstage('d');
  });

  it('never freezes what is below a mount that went away', async () => {
    const target = await staged('d');
    await scene.unstage('d');
    expect(await holdMount(target.mount)).toBeNull();
    await expect(withFrozen(request([target], async () => {}))).rejects.toMatchObject({ code: 'busy' });
  });

  it('says whether it changed anything', async () => {
    const { mount } = await staged('d');
    const held = await holdMount(mount);
    if (!held) throw new Error('not held');
    expect(await thaw(held)).toBe(false);
    expect(await freeze(held)).toBe(true);
    expect(await freeze(held)).toBe(false);
    expect(await thaw(held)).toBe(true);
    await held.release();
    await scene.unstage('d');
  });

  it('of a disk that is a block volume, or not mounted, is doing the work', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', block);
    const device = (await scene.disks.attachment('d'))?.device;
    if (!device) throw new Error('not attached');
    const frozen: number[] = [];
    const freezer = new DeviceFreezer({
      runDir: scene.at('run'),
      checkpoint: () => {},
      onFrozen: (ms) => frozen.push(ms),
    });
    let done = 0;
    await freezer.whileFrozen('d', device, async () => void done++);
    expect(done).toBe(1);
    expect(frozen).toEqual([]);
    await scene.unstage('d');
  });
});

describe('a pause', () => {
  const newFreezer = (frozen: number[] = []) =>
    new DeviceFreezer({ runDir: scene.at('run'), checkpoint: () => {}, onFrozen: (ms) => frozen.push(ms) });

  /** @returns its end, once it has begun */
  async function paused(freezer: DeviceFreezer, { diskId, device }: Staged, signal: AbortSignal) {
    const { promise: begun, resolve } = Promise.withResolvers<void>();
    const ended = freezer.pause(diskId, device, signal, resolve);
    await Promise.race([begun, ended]);
    return { ended };
  }

  it('lasts until its signal, and leaves no mark', async () => {
    const target = await staged('d', xfs);
    const over = new AbortController();
    const freezer = newFreezer();
    const { ended } = await paused(freezer, target, over.signal);
    expect([isFrozen(target.mount.mountPoint), marks().length]).toEqual([true, 1]);
    // There is one already.
    await freezer.pause('d', target.device, over.signal, () => expect.unreachable());
    over.abort();
    await ended;
    expect([isFrozen(target.mount.mountPoint), marks()]).toEqual([false, []]);
    await scene.unstage('d');
  });

  it('makes way for a snapshot, and for whatever cannot be done meanwhile', async () => {
    const target = await staged('d');
    const { signal } = new AbortController();
    const { mountPoint } = target.mount;
    const frozen: number[] = [];
    const freezer = newFreezer(frozen);
    const first = await paused(freezer, target, signal);
    await freezer.whileFrozen('d', target.device, async () => {
      expect([isFrozen(mountPoint), marks().length]).toEqual([true, 1]);
      await freezer.pause('d', target.device, signal, () => expect.unreachable());
    });
    await first.ended;
    expect([isFrozen(mountPoint), marks(), frozen.length]).toEqual([false, [], 1]);
    const second = await paused(freezer, target, signal);
    await freezer.whileNotPaused('d', async () => {
      expect(isFrozen(mountPoint)).toBe(false);
      await freezer.pause('d', target.device, signal, () => expect.unreachable());
      await scene.unstage('d');
    });
    await second.ended;
    expect(marks()).toEqual([]);
  });

  it('that was asked for just now makes way as well', async () => {
    const target = await staged('d');
    const freezer = newFreezer();
    const ended = freezer.pause('d', target.device, new AbortController().signal, () => {});
    await freezer.whileNotPaused('d', () => scene.unstage('d'));
    await ended;
    expect(marks()).toEqual([]);
  });
});

/** What a process leaves that is killed while a file system is frozen. */
async function leaveFrozen(target: Staged): Promise<void> {
  const run = scene.at('run');
  let copy = '';
  await withFrozen(
    request([target], async () => {
      copy = scene.at('copy');
      execFileSync('cp', ['--recursive', path.join(run, 'frozen'), copy]);
    }),
  );
  execFileSync('cp', ['--recursive', '--no-target-directory', copy, path.join(run, 'frozen')]);
  execFileSync('fsfreeze', ['--freeze', target.mount.mountPoint]);
}

describe('at start', () => {
  it('a file system that was left frozen is thawed, and its mark removed', async () => {
    const target = await staged('d', xfs);
    await leaveFrozen(target);
    const logger = new MemoryLogger();
    await thawMarked(scene.at('run'), logger);
    expect(isFrozen(target.mount.mountPoint)).toBe(false);
    expect(marks()).toEqual([]);
    expect(logger.entries).toMatchObject([{ level: 'warn', fields: { diskId: 'd' } }]);
    await scene.unstage('d');
  });

  it('the file system is thawed where it is mounted elsewhere now, or not at all', async () => {
    const target = await staged('d');
    mkdirSync(scene.at('elsewhere'));
    execFileSync('mount', ['--bind', target.mount.mountPoint, scene.at('elsewhere')]);
    await leaveFrozen(target);
    execFileSync('umount', [target.mount.mountPoint]);
    await thawMarked(scene.at('run'), silentLogger);
    expect(isFrozen(scene.at('elsewhere'))).toBe(false);
    const elsewhere = { ...target.mount, mountPoint: scene.at('elsewhere') };
    await leaveFrozen({ ...target, mount: elsewhere, mounts: [target.mount, elsewhere] });
    execFileSync('umount', [scene.at('elsewhere')]);
    await expect(scene.unstage('d')).rejects.toMatchObject({ code: 'disk-in-use' });
    await thawMarked(scene.at('run'), silentLogger);
    expect(marks()).toEqual([]);
    await scene.unstage('d');
  });

  it('a mark of a device that is another one by now touches nothing', async () => {
    const target = await staged('d');
    await leaveFrozen(target);
    execFileSync('fsfreeze', ['--unfreeze', target.mount.mountPoint]);
    await scene.unstage('d');
    const other = await staged('other');
    execFileSync('fsfreeze', ['--freeze', other.mount.mountPoint]);
    await thawMarked(scene.at('run'), silentLogger);
    expect(isFrozen(other.mount.mountPoint)).toBe(true);
    expect(marks()).toEqual([]);
    execFileSync('fsfreeze', ['--unfreeze', other.mount.mountPoint]);
    await scene.unstage('other');
  });

  it('a mark that cannot be read is kept and told of, and the others are done', async () => {
    const target = await staged('d');
    await leaveFrozen(target);
    writeFileSync(path.join(scene.at('run', 'frozen'), '0.json'), '{"torn');
    writeFileSync(path.join(scene.at('run', 'frozen'), 'record-0123'), 'half written');
    const logger = new MemoryLogger();
    await thawMarked(scene.at('run'), logger);
    expect(isFrozen(target.mount.mountPoint)).toBe(false);
    expect(marks()).toEqual(['0.json']);
    expect(logger.entries.filter(({ level }) => level === 'error')).toHaveLength(1);
    await scene.unstage('d');
  });

  it('nothing is to be done where there never was a mark', async () => {
    await thawMarked(scene.at('nowhere'), silentLogger);
  });
});
