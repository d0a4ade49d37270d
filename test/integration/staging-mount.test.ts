import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StagingAccess } from '../../src/engine/staging/staging-port.ts';
import { canGrowMounted } from '../../src/host/filesystem.ts';
import { readMounts } from '../../src/host/mountinfo.ts';
import { GiB, KiB, MiB } from '../../src/lib/bytes.ts';
import { block, btrfs, ext4, StagingScene, xfs } from '../staging-scene.ts';

let scene: StagingScene;
beforeEach(() => {
  scene = new StagingScene();
});
afterEach(() => scene.close());

const growsMounted = { ext4: await canGrowMounted('ext4'), xfs: true, btrfs: true };

const anyType: StagingAccess = { kind: 'mount', fsType: null, mountFlags: [] };
const withFlags = (...mountFlags: string[]): StagingAccess => ({ kind: 'mount', fsType: 'ext4', mountFlags });

async function teardown(diskId: string, ...targets: string[]): Promise<void> {
  for (const target of targets) await scene.unpublish(diskId, target);
  await scene.unstage(diskId);
}

async function mountAt(mountPoint: string) {
  return (await readMounts()).filter((mount) => mount.mountPoint === mountPoint);
}

describe.each([
  ['ext4', ext4, 64 * MiB],
  ['xfs', xfs, 300 * MiB],
  ['btrfs', btrfs, 120 * MiB],
] as const)('%s', (fsType, access, sizeBytes) => {
  it('is made on a blank disk, published, and keeps its files over unstaging and a restart', async () => {
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    expect(scene.disks.disk('d').filesystem).toEqual({ type: fsType, state: 'formatted' });
    const target = await scene.publish('d', 'a', access);
    writeFileSync(path.join(target, 'file'), 'content');
    scene.restarted();
    await scene.unpublish('d', 'a');
    expect(readdirSync(scene.at('targets'))).toEqual([]);
    await scene.unstage('d');
    expect(await scene.disks.attachment('d')).toBeNull();
    await scene.stage('d', access);
    expect(readFileSync(path.join(await scene.publish('d', 'b', access), 'file'), 'utf8')).toBe('content');
    await teardown('d', 'b');
  });

  it('has a root directory that belongs to root and can be given away', async () => {
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    const target = await scene.publish('d', 'a', access);
    expect(statSync(target)).toMatchObject({ uid: 0, gid: 0, mode: 0o40755 });
    execFileSync('chown', ['0:1234', target]);
    execFileSync('chmod', ['2775', target]);
    expect(statSync(target).gid).toBe(1234);
    await teardown('d', 'a');
  });

  it('grows when a bigger disk is staged', async () => {
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    const staged = { diskId: 'd', path: scene.stagingPath('d') };
    const before = (await scene.staging.stats(staged)).usage?.totalBytes ?? 0;
    writeFileSync(path.join(staged.path, 'file'), 'content');
    await scene.unstage('d');
    scene.disks.grow('d', sizeBytes + 200 * MiB);
    await scene.stage('d', access);
    expect((await scene.staging.stats(staged)).usage?.totalBytes).toBeGreaterThan(before + 150 * MiB);
    expect(readFileSync(path.join(staged.path, 'file'), 'utf8')).toBe('content');
    await scene.unstage('d');
  });

  it('grows while it is mounted', async (context) => {
    context.skip(!growsMounted[fsType], 'growing a mounted ext4 takes CAP_SYS_RESOURCE, which root lacks here');
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    const target = await scene.publish('d', 'a', access);
    const sizeOf = async () => (await scene.staging.stats({ diskId: 'd', path: target })).usage?.totalBytes ?? 0;
    const before = await sizeOf();
    scene.disks.grow('d', sizeBytes + 200 * MiB);
    expect(await scene.staging.expand({ diskId: 'd', path: target })).toEqual({ sizeBytes: sizeBytes + 200 * MiB });
    const grown = await sizeOf();
    expect(grown).toBeGreaterThan(before + 150 * MiB);
    expect(await scene.staging.expand({ diskId: 'd', path: target })).toEqual({ sizeBytes: sizeBytes + 200 * MiB });
    expect(await sizeOf()).toBe(grown);
    await teardown('d', 'a');
  });

  it('says what to do where this machine does not let it grow mounted', async (context) => {
    context.skip(growsMounted[fsType], `this machine lets a mounted ${fsType} grow`);
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    const target = await scene.publish('d', 'a', access);
    expect(await scene.staging.expand({ diskId: 'd', path: target })).toEqual({ sizeBytes });
    scene.disks.grow('d', sizeBytes + 200 * MiB);
    const expanded = scene.staging.expand({ diskId: 'd', path: target });
    await expect(expanded).rejects.toMatchObject({ code: 'disk-in-use' });
    await expect(expanded).rejects.toThrow('CAP_SYS_RESOURCE');
    await teardown('d', 'a');
  });

  it('tells its clone from itself when both are mounted', async () => {
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    const original = await scene.publish('d', 'original', access);
    writeFileSync(path.join(original, 'file'), 'original');
    execFileSync('sync', ['--file-system', original]);
    scene.disks.copy('d', 'clone');
    scene.disks.grow('clone', sizeBytes + 200 * MiB);
    await scene.stage('clone', access);
    const clone = await scene.publish('clone', 'clone', access);
    writeFileSync(path.join(clone, 'file'), 'clone');
    writeFileSync(path.join(clone, 'other'), 'clone');
    expect(readFileSync(path.join(original, 'file'), 'utf8')).toBe('original');
    expect(readdirSync(original)).not.toContain('other');
    const total = async (diskId: string, at: string) =>
      (await scene.staging.stats({ diskId, path: at })).usage?.totalBytes ?? 0;
    expect(await total('clone', clone)).toBeGreaterThan((await total('d', original)) + 50 * MiB);
    await teardown('d', 'original');
    expect(readFileSync(path.join(clone, 'other'), 'utf8')).toBe('clone');
    await teardown('clone', 'clone');
    await scene.stage('d', access);
    const again = await scene.publish('d', 'again', access);
    expect(readFileSync(path.join(again, 'file'), 'utf8')).toBe('original');
    await teardown('d', 'again');
  });

  it('leaves a preallocated disk allocated: by mkfs, by mounting, and by deleting files', async () => {
    scene.disks.create('d', 1 * GiB, { thick: true });
    const before = scene.disks.allocatedBytes('d');
    expect(before).toBeGreaterThanOrEqual(GiB);
    await scene.stage('d', access);
    const target = await scene.publish('d', 'a', access);
    execFileSync('dd', [
      'if=/dev/urandom',
      `of=${path.join(target, 'file')}`,
      'bs=1M',
      'count=64',
      'conv=fsync',
      'status=none',
    ]);
    execFileSync('rm', [path.join(target, 'file')]);
    execFileSync('sync', ['--file-system', target]);
    await teardown('d', 'a');
    expect(scene.disks.allocatedBytes('d')).toBeGreaterThanOrEqual(before);
  });

  it('gives the blocks of deleted files on a thin disk back', async () => {
    scene.disks.create('d', GiB);
    await scene.stage('d', access);
    expect(scene.disks.allocatedBytes('d')).toBeLessThan(80 * MiB);
    const target = await scene.publish('d', 'a', access);
    execFileSync('dd', [
      'if=/dev/urandom',
      `of=${path.join(target, 'file')}`,
      'bs=1M',
      'count=200',
      'conv=fsync',
      'status=none',
    ]);
    expect(scene.disks.allocatedBytes('d')).toBeGreaterThan(200 * MiB);
    execFileSync('rm', [path.join(target, 'file')]);
    execFileSync('sync', ['--file-system', target]);
    await expect.poll(() => scene.disks.allocatedBytes('d'), { timeout: 60_000 }).toBeLessThan(150 * MiB);
    await teardown('d', 'a');
  });

  it('is read-only where it is published so, and writable elsewhere', async () => {
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    const writable = await scene.publish('d', 'rw', access);
    const readOnly = await scene.publish('d', 'ro', access, { readOnly: true });
    writeFileSync(path.join(writable, 'file'), 'content');
    expect(readFileSync(path.join(readOnly, 'file'), 'utf8')).toBe('content');
    expect(() => writeFileSync(path.join(readOnly, 'file'), '')).toThrow('EROFS');
    expect((await mountAt(readOnly)).map(({ options }) => options.includes('ro'))).toEqual([true]);
    expect(await scene.mountsBelow()).toHaveLength(3);
    await teardown('d', 'ro', 'rw');
  });

  it('is made again where a crash ended its making', async () => {
    scene.disks.create('d', sizeBytes);
    await scene.stage('d', access);
    await scene.unstage('d');
    await scene.disks.recordFilesystem('d', { type: fsType, state: 'formatting' });
    execFileSync('dd', [
      'if=/dev/urandom',
      `of=${scene.disks.file('d')}`,
      'bs=4k',
      'seek=30',
      'count=9',
      'conv=notrunc',
      'status=none',
    ]);
    await scene.stage('d', access);
    expect(scene.disks.disk('d').filesystem).toEqual({ type: fsType, state: 'formatted' });
    writeFileSync(path.join(await scene.publish('d', 'a', access), 'file'), 'content');
    await teardown('d', 'a');
  });
});

describe('staging a mount', () => {
  it('stages a btrfs that is too small to be grown, and says so to who wants it grown', async () => {
    scene.disks.create('d', 128 * MiB);
    await scene.stage('d', btrfs);
    scene.disks.grow('d', 200 * MiB);
    const expanded = scene.staging.expand({ diskId: 'd', path: scene.stagingPath('d') });
    await expect(expanded).rejects.toMatchObject({ code: 'size-out-of-range' });
    await expect(expanded).rejects.toThrow('256 MiB');
    await scene.unstage('d');
    await scene.stage('d', btrfs);
    await scene.unstage('d');
  });

  it('makes ext4 where nothing is asked for, and keeps what is there later', async () => {
    scene.disks.create('a', 64 * MiB);
    await scene.stage('a', anyType);
    expect(scene.disks.disk('a').filesystem?.type).toBe('ext4');
    await scene.unstage('a');
    scene.disks.create('b', 300 * MiB);
    await scene.stage('b', xfs);
    await scene.unstage('b');
    await scene.stage('b', anyType);
    expect((await mountAt(scene.stagingPath('b')))[0]?.fsType).toBe('xfs');
    await scene.unstage('b');
  });

  it('takes over a file system that is not recorded, such as a copied one', async () => {
    scene.disks.create('a', 64 * MiB);
    execFileSync('mkfs.ext4', ['-q', scene.disks.file('a')]);
    await scene.stage('a', anyType);
    expect(scene.disks.disk('a').filesystem).toEqual({ type: 'ext4', state: 'formatted' });
    await scene.unstage('a');
  });

  it('is idempotent, and refuses the same path with other parameters', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', withFlags('noexec'));
    await scene.stage('d', withFlags('noexec'));
    await scene.restarted().stage({ diskId: 'd', stagingPath: scene.stagingPath('d'), access: withFlags('noexec') });
    expect(await scene.mountsBelow()).toHaveLength(1);
    await expect(scene.stage('d', withFlags())).rejects.toMatchObject({ code: 'target-in-use' });
    await expect(scene.stage('d', withFlags('noexec', 'ro'))).rejects.toMatchObject({ code: 'target-in-use' });
    await expect(scene.stage('d', xfs)).rejects.toMatchObject({ code: 'target-in-use' });
    await expect(scene.stage('d', block)).rejects.toMatchObject({ code: 'target-in-use' });
    await scene.unstage('d');
    await scene.unstage('d');
  });

  it('refuses a path that is taken by another disk, a file, a link or files', async () => {
    scene.disks.create('d', 64 * MiB);
    scene.disks.create('other', 64 * MiB);
    await scene.stage('other', ext4);
    const taken = scene.at('taken');
    mkdirSync(taken);
    writeFileSync(path.join(taken, 'file'), 'kept');
    symlinkSync(taken, scene.at('link'));
    for (const stagingPath of [scene.stagingPath('other'), taken, scene.at('link'), path.join(taken, 'file')]) {
      await expect(scene.staging.stage({ diskId: 'd', stagingPath, access: ext4 })).rejects.toMatchObject({
        code: 'target-in-use',
      });
    }
    await expect(scene.staging.unstage({ diskId: 'd', stagingPath: scene.stagingPath('other') })).rejects.toMatchObject(
      {
        code: 'publish-refused',
      },
    );
    await scene.unstage('d');
    await scene.unstage('other');
  });

  it('never overwrites what it does not know', async () => {
    const cases: [string, (file: string) => void, string][] = [
      ['table', (file) => writeAt(file, 446, partitionTable), 'a dos partition table'],
      ['swap', (file) => execFileSync('mkswap', [file], { stdio: 'ignore' }), 'swap'],
      ['ext2', (file) => execFileSync('mkfs.ext2', ['-q', file]), 'a ext2 file system'],
      ['head', (file) => writeAt(file, 5000, 'somebody wrote this'), 'unknown kind'],
      ['between', (file) => writeAt(file, 20_700 * KiB, 'somebody wrote this'), 'unknown kind'],
      ['tail', (file) => writeAt(file, 64 * MiB - 30, 'somebody wrote this'), 'unknown kind'],
      [
        'middle',
        (file) =>
          execFileSync('dd', [
            'if=/dev/urandom',
            `of=${file}`,
            'bs=1M',
            'seek=20',
            'count=9',
            'conv=notrunc',
            'status=none',
          ]),
        'unknown kind',
      ],
    ];
    for (const [diskId, write, what] of cases) {
      const file = scene.disks.create(diskId, 64 * MiB);
      write(file);
      const before = execFileSync('sha256sum', [file]);
      const staged = scene.stage(diskId, anyType);
      await expect(staged, diskId).rejects.toMatchObject({ code: 'filesystem-unknown' });
      await expect(staged).rejects.toThrow(what);
      expect(execFileSync('sha256sum', [file])).toEqual(before);
      expect(scene.disks.disk(diskId).filesystem).toBeNull();
      await scene.unstage(diskId);
    }
  });

  it('refuses another file system than there is, and an emptied one', async () => {
    scene.disks.create('d', 300 * MiB);
    await scene.stage('d', ext4);
    await scene.unstage('d');
    await expect(scene.stage('d', xfs)).rejects.toMatchObject({ code: 'filesystem-mismatch' });
    execFileSync('wipefs', ['-a', '-q', scene.disks.file('d')]);
    execFileSync('dd', ['if=/dev/zero', `of=${scene.disks.file('d')}`, 'bs=1M', 'count=300', 'status=none']);
    await expect(scene.stage('d', ext4)).rejects.toMatchObject({ code: 'disk-damaged' });
    await scene.unstage('d');
  });

  it.each([
    [xfs, 299 * MiB, '300 MiB'],
    [btrfs, 100 * MiB, '114294784 bytes'],
    [ext4, MiB, '2 MiB'],
  ])('says the least size of %o', async (access, sizeBytes, least) => {
    scene.disks.create('d', sizeBytes);
    const staged = scene.stage('d', access);
    await expect(staged).rejects.toMatchObject({ code: 'size-out-of-range' });
    await expect(staged).rejects.toThrow(least);
    expect(scene.disks.disk('d').filesystem).toBeNull();
    await scene.unstage('d');
  });

  it('makes an ext4 of the least size it accepts', async () => {
    scene.disks.create('d', 2 * MiB);
    await scene.stage('d', ext4);
    await scene.unstage('d');
  });

  it.each([
    'a,b',
    'a b',
    'a\nb',
    '',
    '"a"',
    "it's",
    'bind',
    'loop',
    'subvol=x',
    'X-mount.subdir=x',
    'device=/dev/sda',
    '-o',
  ])('refuses the mount flag %j', async (flag) => {
    scene.disks.create('d', 64 * MiB);
    const staged = scene.stage('d', withFlags('noatime', flag));
    await expect(staged).rejects.toMatchObject({ code: 'invalid-parameter' });
    await expect(staged).rejects.toThrow(JSON.stringify(flag));
    await scene.unstage('d');
  });

  it('hands mount flags on, also to targets, and keeps them where it makes them read-only', async () => {
    scene.disks.create('d', 64 * MiB);
    const access = withFlags('noexec', 'nosuid', 'noatime', 'commit=30', 'nodiscard');
    await scene.stage('d', access);
    for (const readOnly of [false, true]) {
      const [mount] = await mountAt(await scene.publish('d', `t-${readOnly}`, access, { readOnly }));
      expect(mount?.options).toEqual(expect.arrayContaining(['noexec', 'nosuid', 'noatime', readOnly ? 'ro' : 'rw']));
      expect(mount?.superOptions).toContain('commit=30');
      expect(mount?.superOptions).not.toContain('discard');
    }
    await teardown('d', 't-true', 't-false');
  });

  it('mounts read-only where the flags say so, and does not try to grow it', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    await scene.unstage('d');
    scene.disks.grow('d', 96 * MiB);
    await scene.stage('d', withFlags('ro'));
    const target = await scene.publish('d', 'a', withFlags('ro'));
    await scene.publish('d', 'a', withFlags('ro'));
    expect(() => writeFileSync(path.join(target, 'file'), '')).toThrow('EROFS');
    expect((await scene.staging.expand({ diskId: 'd', path: target })).sizeBytes).toBe(96 * MiB);
    expect(await scene.staging.health('d')).toBeNull();
    await teardown('d', 'a');
  });

  it('works at odd paths, growing included', async () => {
    const names = [
      'with space',
      'line\nbreak',
      'tab\there',
      'back\\slash',
      'hash#',
      'ünïcödé-✓',
      '--help',
      '-o',
      'quo\'te"s',
      'a,b',
      '\\040',
      '(deleted)',
    ];
    for (const [index, name] of names.entries()) {
      const diskId = `d${index}`;
      scene.disks.create(diskId, 64 * MiB);
      const stagingPath = scene.at('staging', name);
      const targetPath = scene.at('deep', name, name);
      const request = { diskId, stagingPath, targetPath, access: ext4, readOnly: index % 2 === 1, singleTarget: true };
      await scene.staging.stage(request);
      await scene.staging.publish(request);
      await scene.staging.publish(request);
      expect(await mountAt(targetPath)).toHaveLength(1);
      expect((await scene.staging.stats({ diskId, path: targetPath })).sizeBytes).toBe(64 * MiB);
      if (growsMounted.ext4) {
        scene.disks.grow(diskId, 96 * MiB);
        await scene.staging.expand({ diskId, path: targetPath });
        const { usage } = await scene.staging.stats({ diskId, path: targetPath });
        expect(usage?.totalBytes).toBeGreaterThan(70 * MiB);
      }
      await scene.staging.unpublish({ diskId, targetPath });
      expect(readdirSync(scene.at('deep', name))).toEqual([]);
      await scene.staging.unstage({ diskId, stagingPath });
    }
  });

  it.each([
    ['xfs', xfs],
    ['btrfs', btrfs],
  ] as const)('%s works at odd paths too', async (_, access) => {
    scene.disks.create('d', 320 * MiB);
    const request = {
      diskId: 'd',
      stagingPath: scene.at('sta ge\n#\\'),
      targetPath: scene.at('tar get\n#\\'),
      access,
      readOnly: false,
      singleTarget: true,
    };
    await scene.staging.stage(request);
    await scene.staging.publish(request);
    scene.disks.grow('d', 640 * MiB);
    await scene.staging.expand({ diskId: 'd', path: request.targetPath });
    expect((await scene.staging.stats({ diskId: 'd', path: request.targetPath })).usage?.totalBytes).toBeGreaterThan(
      500 * MiB,
    );
    await scene.staging.unpublish(request);
    await scene.staging.unstage(request);
  });

  it.each(['relative', '/', './x', '', '/a\0b'])('refuses the path %j', async (stagingPath) => {
    scene.disks.create('d', 64 * MiB);
    await expect(scene.staging.stage({ diskId: 'd', stagingPath, access: ext4 })).rejects.toMatchObject({
      code: 'invalid-parameter',
    });
  });

  it('follows links above its paths, as of a kubelet directory that is one', async () => {
    mkdirSync(scene.at('real'));
    symlinkSync(scene.at('real'), scene.at('kubelet'));
    scene.disks.create('d', 64 * MiB);
    const request = {
      diskId: 'd',
      stagingPath: scene.at('kubelet', 'plugins', 'x'),
      targetPath: scene.at('kubelet', 'pods', 'y'),
      access: ext4,
      readOnly: false,
      singleTarget: true,
    };
    for (let round = 0; round < 2; round++) {
      await scene.staging.stage(request);
      await scene.staging.publish(request);
    }
    expect(await mountAt(scene.at('real', 'pods', 'y'))).toHaveLength(1);
    await scene.staging.stats({ diskId: 'd', path: request.targetPath });
    await scene.staging.unpublish(request);
    await scene.staging.unstage(request);
  });
});

describe('publishing a mount', () => {
  it('needs a staged disk that there is', async () => {
    scene.disks.create('d', 64 * MiB);
    await expect(scene.publish('none', 'a', ext4)).rejects.toMatchObject({ code: 'disk-not-found' });
    await expect(scene.publish('d', 'a', ext4)).rejects.toMatchObject({ code: 'not-staged' });
    await scene.stage('d', block);
    await expect(scene.publish('d', 'a', ext4)).rejects.toMatchObject({ code: 'not-staged' });
    expect(readdirSync(scene.at('targets'))).toEqual([]);
    await scene.unstage('d');
  });

  it('is idempotent, and refuses a taken target', async () => {
    scene.disks.create('d', 64 * MiB);
    scene.disks.create('other', 64 * MiB);
    await scene.stage('d', ext4);
    await scene.stage('other', ext4);
    const target = await scene.publish('d', 'a', ext4);
    await scene.publish('d', 'a', ext4);
    expect(await mountAt(target)).toHaveLength(1);
    await expect(scene.publish('d', 'a', ext4, { readOnly: true })).rejects.toMatchObject({ code: 'target-in-use' });
    await expect(scene.publish('other', 'a', ext4)).rejects.toMatchObject({ code: 'target-in-use' });
    await expect(scene.publish('d', 'a', block)).rejects.toMatchObject({ code: 'target-in-use' });
    await scene.publish('d', 'ro', ext4, { readOnly: true });
    await scene.publish('d', 'ro', ext4, { readOnly: true });
    await expect(scene.publish('d', 'ro', ext4)).rejects.toMatchObject({ code: 'target-in-use' });
    writeFileSync(scene.at('targets', 'file'), 'kept');
    mkdirSync(scene.at('targets', 'full', 'x'), { recursive: true });
    symlinkSync('/etc', scene.at('targets', 'link'));
    for (const taken of ['file', 'full', 'link']) {
      await expect(scene.publish('d', taken, ext4)).rejects.toMatchObject({ code: 'target-in-use' });
      await expect(scene.unpublish('d', taken)).rejects.toMatchObject({ code: 'publish-refused' });
    }
    expect(readFileSync(scene.at('targets', 'file'), 'utf8')).toBe('kept');
    await teardown('d', 'a', 'ro');
    await scene.unstage('other');
  });

  it('refuses a second target to a single user only', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    await scene.publish('d', 'a', ext4, { singleTarget: true });
    await scene.publish('d', 'a', ext4, { singleTarget: true });
    await expect(scene.publish('d', 'b', ext4, { singleTarget: true })).rejects.toMatchObject({
      code: 'publish-refused',
    });
    await scene.publish('d', 'b', ext4);
    await teardown('d', 'a', 'b');
  });

  it('does not take one target for two where a directory above is mounted twice', async () => {
    scene.disks.create('d', 64 * MiB);
    mkdirSync(scene.at('mirror'));
    execFileSync('mount', ['--bind', scene.at('targets'), scene.at('targets')]);
    execFileSync('mount', ['--make-private', scene.at('targets')]);
    execFileSync('mount', ['--make-shared', scene.at('targets')]);
    execFileSync('mount', ['--bind', scene.at('targets'), scene.at('mirror')]);
    await scene.stage('d', ext4);
    const target = await scene.publish('d', 'a', ext4, { singleTarget: true });
    expect(await mountAt(scene.at('mirror', 'a'))).toHaveLength(1);
    await scene.publish('d', 'a', ext4, { singleTarget: true });
    expect(await mountAt(target)).toHaveLength(1);
    await expect(scene.publish('d', 'b', ext4, { singleTarget: true })).rejects.toMatchObject({
      code: 'publish-refused',
    });
    await teardown('d', 'a');
    execFileSync('umount', [scene.at('mirror')]);
    execFileSync('umount', [scene.at('targets')]);
  });

  it('makes the directories above its target', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    await scene.publish('d', 'a/b/c', ext4);
    await teardown('d', 'a/b/c');
    expect(readdirSync(scene.at('targets', 'a', 'b'))).toEqual([]);
  });
});

describe('unpublishing and unstaging', () => {
  it('are idempotent, also for disks and paths that never were', async () => {
    await scene.unpublish('none', 'a');
    await scene.unpublish('none', 'no/such/directory');
    await scene.unstage('none');
    scene.disks.create('d', 64 * MiB);
    await scene.unpublish('d', 'a');
    await scene.unstage('d');
  });

  it('leave mounts of others alone, also where the disk is gone', async () => {
    scene.disks.create('d', 64 * MiB);
    scene.disks.create('other', 64 * MiB);
    await scene.stage('d', ext4);
    await scene.stage('other', ext4);
    await scene.publish('other', 'other', ext4);
    await expect(scene.unpublish('d', 'other')).rejects.toMatchObject({ code: 'publish-refused' });
    await expect(scene.staging.unpublish({ diskId: 'none', targetPath: '/proc' })).rejects.toMatchObject({
      code: 'publish-refused',
    });
    expect(await mountAt(scene.at('targets', 'other'))).toHaveLength(1);
    await teardown('other', 'other');
    await scene.unstage('d');
  });

  it('refuse to detach what is still published', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    const target = await scene.publish('d', 'a', ext4);
    await expect(scene.unstage('d')).rejects.toMatchObject({
      code: 'disk-in-use',
      message: expect.stringContaining(target),
    });
    writeFileSync(path.join(target, 'file'), 'still served');
    await scene.stage('d', ext4);
    expect(readFileSync(path.join(scene.stagingPath('d'), 'file'), 'utf8')).toBe('still served');
    await teardown('d', 'a');
  });

  it('say that the disk is in use while a file in it is open, and succeed afterwards', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    const target = await scene.publish('d', 'a', ext4);
    const file = openSync(path.join(target, 'file'), 'w');
    await expect(scene.unpublish('d', 'a')).rejects.toMatchObject({ code: 'disk-in-use' });
    closeSync(file);
    await teardown('d', 'a');
  });

  it('take away all of several mounts on one path', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    const target = await scene.publish('d', 'a', ext4);
    for (let times = 0; times < 3; times++) execFileSync('mount', ['--bind', scene.stagingPath('d'), target]);
    expect((await mountAt(target)).length).toBeGreaterThan(3);
    await teardown('d', 'a');
    expect(await scene.mountsBelow()).toEqual([]);
  });
});

describe('a disk whose daemon died', () => {
  it('is mended by staging it again once it is published nowhere', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    const target = await scene.publish('d', 'a', ext4);
    writeFileSync(path.join(target, 'file'), 'content', { flush: true });
    expect(await scene.staging.health('d')).toBeNull();
    scene.disks.dead.add('d');
    expect(await scene.staging.health('d')).toContain('died');
    await expect(scene.staging.stats({ diskId: 'd', path: target })).rejects.toMatchObject({ code: 'engine-dead' });
    await expect(scene.publish('d', 'b', ext4)).rejects.toMatchObject({ code: 'engine-dead' });
    const refused = scene.stage('d', ext4);
    await expect(refused).rejects.toMatchObject({ code: 'engine-dead' });
    await expect(refused).rejects.toThrow('unpublish first, then unstage and stage again');
    await scene.unpublish('d', 'a');
    await scene.stage('d', ext4);
    expect(await scene.staging.health('d')).toBeNull();
    expect(readFileSync(path.join(await scene.publish('d', 'a', ext4), 'file'), 'utf8')).toBe('content');
    await teardown('d', 'a');
  });

  it('is unpublished and unstaged like any other', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    await scene.publish('d', 'a', ext4);
    scene.disks.dead.add('d');
    await teardown('d', 'a');
    await scene.stage('d', ext4);
    await scene.unstage('d');
  });
});

describe('a disk whose daemon does not answer', () => {
  it('is not unmounted for good, which would wait for ever, until the daemon answers or died', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    const target = await scene.publish('d', 'a', ext4);
    scene.disks.unresponsive.add('d');
    expect(await scene.staging.health('d')).toContain('does not answer');
    await expect(scene.staging.stats({ diskId: 'd', path: target })).rejects.toMatchObject({
      code: 'engine-unresponsive',
    });
    await scene.unpublish('d', 'a');
    await expect(scene.unstage('d')).rejects.toMatchObject({ code: 'engine-unresponsive' });
    await expect(scene.stage('d', ext4)).rejects.toMatchObject({ code: 'engine-unresponsive' });
    await expect(scene.publish('d', 'a', ext4)).rejects.toMatchObject({ code: 'engine-unresponsive' });
    expect(await mountAt(scene.stagingPath('d'))).toHaveLength(1);
    scene.disks.unresponsive.delete('d');
    await scene.unstage('d');
  });
});

describe('stats', () => {
  it('tell a file system’s bytes and inodes, and refuse paths where the disk is not', async () => {
    scene.disks.create('d', 64 * MiB);
    await scene.stage('d', ext4);
    const target = await scene.publish('d', 'a', ext4);
    const { usage, sizeBytes } = await scene.staging.stats({ diskId: 'd', path: target });
    expect(sizeBytes).toBe(64 * MiB);
    expect(usage?.totalBytes).toBeLessThanOrEqual(64 * MiB);
    expect(usage?.usedBytes).toBeGreaterThanOrEqual(0);
    expect((usage?.usedBytes ?? 0) + (usage?.availableBytes ?? 0)).toBeLessThanOrEqual(usage?.totalBytes ?? 0);
    expect(usage?.availableBytes).toBeGreaterThan(32 * MiB);
    expect((usage?.usedInodes ?? 0) + (usage?.freeInodes ?? 0)).toBe(usage?.totalInodes);
    expect((await scene.staging.stats({ diskId: 'd', path: scene.stagingPath('d') })).usage).toEqual(usage);
    for (const elsewhere of [scene.directory, path.join(target, 'x'), '/no/such/place', scene.at('targets', 'b')]) {
      await expect(scene.staging.stats({ diskId: 'd', path: elsewhere })).rejects.toMatchObject({
        code: 'path-not-found',
      });
      await expect(scene.staging.expand({ diskId: 'd', path: elsewhere })).rejects.toMatchObject({
        code: 'path-not-found',
      });
    }
    await expect(scene.staging.stats({ diskId: 'none', path: target })).rejects.toMatchObject({
      code: 'disk-not-found',
    });
    await expect(scene.staging.health('none')).rejects.toMatchObject({ code: 'disk-not-found' });
    await teardown('d', 'a');
    await expect(scene.staging.stats({ diskId: 'd', path: target })).rejects.toMatchObject({ code: 'path-not-found' });
  });
});

/** One Linux partition from sector 2048 on. */
const partitionTable = Buffer.from(`00000000830000000008000000000100${'00'.repeat(48)}55aa`, 'hex');

function writeAt(file: string, offset: number, text: string | Buffer): void {
  execFileSync('dd', [`of=${file}`, 'bs=1', `seek=${offset}`, 'conv=notrunc', 'status=none'], { input: text });
}
