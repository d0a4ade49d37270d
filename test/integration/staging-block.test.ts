import { execFileSync } from 'node:child_process';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listReadOnlyLoops } from '../../src/host/read-only-loop.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { block, ext4, StagingScene } from '../staging-scene.ts';

let scene: StagingScene;
beforeEach(() => {
  scene = new StagingScene();
  scene.disks.create('d', 64 * MiB);
});
afterEach(() => scene.close());

async function teardown(diskId: string, ...targets: string[]): Promise<void> {
  for (const target of targets) await scene.unpublish(diskId, target);
  await scene.unstage(diskId);
}

async function devicePath(): Promise<string> {
  return (await scene.disks.attachment('d'))?.device?.path ?? '';
}

function write(device: string, text: string): void {
  const file = openSync(device, 'r+');
  try {
    writeSync(file, text);
  } finally {
    closeSync(file);
  }
}

function read(device: string, length: number): string {
  const file = openSync(device, 'r');
  const bytes = Buffer.alloc(length);
  readSync(file, bytes, 0, length, 0);
  closeSync(file);
  return bytes.toString();
}

describe('a block volume', () => {
  it('is the device itself, whatever is on it, and keeps its bytes', async () => {
    await scene.stage('d', block);
    const target = await scene.publish('d', 'a', block);
    expect(statSync(target).rdev).toBe(statSync(await devicePath()).rdev);
    write(target, 'written');
    scene.restarted();
    await teardown('d', 'a');
    expect(readdirSync(scene.at('targets'))).toEqual([]);
    expect(await scene.disks.attachment('d')).toBeNull();
    expect(read(scene.disks.file('d'), 7)).toBe('written');
    await scene.stage('d', block);
    expect(read(await scene.publish('d', 'a', block), 7)).toBe('written');
    expect(scene.disks.disk('d').filesystem).toBeNull();
    await teardown('d', 'a');
  });

  it('is published idempotently, at one target or at several', async () => {
    await scene.stage('d', block);
    await scene.stage('d', block);
    const single = { singleTarget: true };
    await scene.publish('d', 'a', block, single);
    await scene.publish('d', 'a', block, single);
    await expect(scene.publish('d', 'b', block, single)).rejects.toMatchObject({ code: 'publish-refused' });
    await expect(scene.publish('d', 'a', block, { readOnly: true })).rejects.toMatchObject({ code: 'target-in-use' });
    await scene.publish('d', 'b', block);
    expect(await scene.mountsBelow()).toHaveLength(2);
    await teardown('d', 'a', 'b');
  });

  it('needs to be staged, and is not mounted as well', async () => {
    await expect(scene.publish('d', 'a', block)).rejects.toMatchObject({ code: 'not-staged' });
    await scene.stage('d', block);
    await scene.publish('d', 'a', block);
    await expect(scene.stage('d', ext4)).rejects.toMatchObject({ code: 'target-in-use' });
    await teardown('d', 'a');
  });

  it('refuses a target that is taken', async () => {
    scene.disks.create('other', 64 * MiB);
    await scene.stage('d', block);
    await scene.stage('other', block);
    await scene.publish('other', 'a', block);
    mkdirSync(scene.at('targets', 'directory'));
    writeFileSync(scene.at('targets', 'file'), 'kept');
    symlinkSync('/dev/null', scene.at('targets', 'link'));
    for (const target of ['a', 'directory', 'file', 'link']) {
      await expect(scene.publish('d', target, block), target).rejects.toMatchObject({ code: 'target-in-use' });
    }
    for (const target of ['a', 'file', 'link']) {
      await expect(scene.unpublish('d', target), target).rejects.toMatchObject({ code: 'publish-refused' });
    }
    expect(lstatSync(scene.at('targets', 'link')).isSymbolicLink()).toBe(true);
    await teardown('d');
    await teardown('other', 'a');
  });

  it('is not detached while it is published, even where nobody has it open', async () => {
    await scene.stage('d', block);
    const target = await scene.publish('d', 'a', block);
    const unstaged = scene.unstage('d');
    await expect(unstaged).rejects.toMatchObject({ code: 'disk-in-use' });
    await expect(unstaged).rejects.toThrow(target);
    await teardown('d', 'a');
  });

  it('grows while it is in use, read-only targets too', async () => {
    await scene.stage('d', block);
    const target = await scene.publish('d', 'a', block);
    const readOnly = await scene.publish('d', 'ro', block, { readOnly: true });
    scene.disks.grow('d', 96 * MiB);
    expect(await scene.staging.expand({ diskId: 'd', path: target })).toEqual({ sizeBytes: 96 * MiB });
    for (const path of [target, readOnly]) {
      expect(await scene.staging.stats({ diskId: 'd', path })).toEqual({ usage: null, sizeBytes: 96 * MiB });
      expect(Number(execFileSync('blockdev', ['--getsize64', path], { encoding: 'utf8' }))).toBe(96 * MiB);
    }
    mkdirSync(scene.stagingPath('d'), { recursive: true });
    expect(await scene.staging.expand({ diskId: 'd', path: scene.stagingPath('d') })).toEqual({ sizeBytes: 96 * MiB });
    await expect(scene.staging.expand({ diskId: 'd', path: '/no/such/path' })).rejects.toMatchObject({
      code: 'path-not-found',
    });
    await expect(scene.staging.stats({ diskId: 'd', path: '/dev/null' })).rejects.toMatchObject({
      code: 'path-not-found',
    });
    await teardown('d', 'ro', 'a');
  });

  it('whose daemon died is mended by staging it again once it is published nowhere', async () => {
    await scene.stage('d', block);
    await scene.publish('d', 'ro', block, { readOnly: true });
    scene.disks.dead.add('d');
    await expect(scene.stage('d', block)).rejects.toMatchObject({ code: 'engine-dead' });
    await scene.unpublish('d', 'ro');
    await scene.stage('d', block);
    expect(await scene.staging.health('d')).toBeNull();
    await teardown('d');
  });
});

describe('a read-only block volume', () => {
  it('cannot be written, shows what others write, and leaves no device behind', async () => {
    await scene.stage('d', block);
    const device = await devicePath();
    const writable = await scene.publish('d', 'rw', block);
    write(writable, 'before');
    const readOnly = await scene.publish('d', 'ro', block, { readOnly: true });
    await scene.publish('d', 'ro', block, { readOnly: true });
    await scene.publish('d', 'ro-2', block, { readOnly: true });
    expect(read(readOnly, 6)).toBe('before');
    expect(() => write(readOnly, 'x')).toThrow(/EPERM|EACCES|EROFS/);
    expect(execFileSync('blockdev', ['--getro', readOnly], { encoding: 'utf8' }).trim()).toBe('1');
    expect(await listReadOnlyLoops(device)).toHaveLength(1);
    write(writable, 'after!');
    execFileSync('blockdev', ['--flushbufs', readOnly]);
    expect(read(readOnly, 6)).toBe('after!');
    await expect(scene.publish('d', 'ro', block)).rejects.toMatchObject({ code: 'target-in-use' });
    await scene.restarted().unpublish({ diskId: 'd', targetPath: readOnly });
    expect(await listReadOnlyLoops(device)).toHaveLength(1);
    await scene.unpublish('d', 'ro-2');
    expect(await listReadOnlyLoops(device)).toEqual([]);
    await teardown('d', 'rw');
  });

  it('leaves loop devices alone that others put on it, such as the kubelet', async () => {
    await scene.stage('d', block);
    const target = await scene.publish('d', 'a', block);
    const kubelets = execFileSync('losetup', ['--find', '--show', target], { encoding: 'utf8' }).trim();
    await scene.publish('d', 'ro', block, { readOnly: true });
    await scene.unpublish('d', 'ro');
    expect(execFileSync('losetup', ['--noheadings', '--output', 'NAME', kubelets], { encoding: 'utf8' }).trim()).toBe(
      kubelets,
    );
    execFileSync('losetup', ['--detach', kubelets]);
    await teardown('d', 'a');
  });
});
