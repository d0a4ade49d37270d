import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MiB } from '../../src/lib/bytes.ts';
import { LaminaError } from '../../src/lib/errors.ts';
import { reachesItsEnd } from '../../src/qemu/qcow2-end.ts';
import { checkPool, exitCode, repairPool } from '../../src/store/check.ts';
import { lockPool } from '../../src/store/open.ts';
import {
  anySize,
  type DetachedPool,
  expectPattern,
  openDetachedPool,
  removeDirectory,
  temporaryDirectory,
  thin,
  writePattern,
} from '../detached-pool.ts';
import { silentLogger } from '../fakes/silent-logger.ts';

const noProgress = () => {};

describe('a damaged pool', () => {
  let directory: string;
  beforeEach(() => {
    directory = temporaryDirectory();
  });
  afterEach(() => removeDirectory(directory));

  /** A disk `a` with a snapshot `s` of its first megabyte, and a restored disk `b`; then closed. */
  async function makePool(): Promise<DetachedPool> {
    const opened = await openDetachedPool(directory);
    await opened.disks.create({ name: 'a', size: anySize, options: thin, source: null });
    writePattern(opened, 'a', 1, 0, MiB);
    await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
    writePattern(opened, 'a', 2, 0, MiB);
    await opened.disks.create({ name: 'b', size: anySize, options: thin, source: { kind: 'snapshot', id: 's' } });
    await opened.release();
    return opened;
  }

  const refusal = () =>
    openDetachedPool(directory).then(
      async (opened) => {
        await opened.release();
        throw new Error('the damaged pool was opened');
      },
      (error: unknown) => error as Error,
    );

  it.each([
    ['torn', (text: string) => text.slice(0, 40), 'record-corrupt'],
    ['empty', () => '', 'record-corrupt'],
    ['of a newer version', (text: string) => text.replace('"version": 1', '"version": 2'), 'record-version'],
    [
      'naming a layer outside of the pool',
      (text: string) => text.replace(/"head": ".*"/, '"head": "../../../etc"'),
      'record-corrupt',
    ],
    [
      'naming a layer that is not there',
      (text: string) => text.replace(/"head": ".*"/, '"head": "lnowhere"'),
      'graph-corrupt',
    ],
    ['of another disk', (text: string) => text.replace('"id": "a"', '"id": "c"'), 'record-corrupt'],
  ])('is refused where a disk record is %s, and nothing in it is changed', async (_, damage, code) => {
    await makePool();
    const file = path.join(directory, 'disks', 'a.json');
    writeFileSync(file, damage(readFileSync(file, 'utf8')));
    const layers = readdirSync(path.join(directory, 'layers'));
    expect(await refusal()).toMatchObject({ code, message: expect.stringContaining(file) });
    expect(readdirSync(path.join(directory, 'layers'))).toEqual(layers);
    const report = await checkPool(directory, noProgress);
    expect(exitCode(report)).toBe(4);
    expect(report.problems.map((problem) => problem.file)).toContain(file);
  });

  it.each([
    ['an absolute path', '/etc/passwd', 'raw'],
    ['a file outside of the layers', '../../../secret', 'raw'],
    ['another layer than its record', '../lother/data.qcow2', 'qcow2'],
  ])('is refused where a header names %s as its backing file', async (_, backing, format) => {
    const { pool } = await makePool();
    const file = pool.chainLayer(pool.disk('a').head).path;
    execFileSync('qemu-img', ['rebase', '-u', '-f', 'qcow2', '-b', backing, '-F', format, file]);
    expect(await refusal()).toMatchObject({
      code: 'layer-corrupt',
      message: expect.stringMatching(`${file} names the backing file`),
    });
  });

  it('is refused where a header names an external data file', async () => {
    const { pool } = await makePool();
    const file = pool.chainLayer(pool.disk('a').head).path;
    const external = path.join(directory, 'external');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${external}`, `${file}.new`, '1G']);
    renameSync(`${file}.new`, file);
    expect(await refusal()).toMatchObject({
      code: 'layer-corrupt',
      message: expect.stringContaining('external data file'),
    });
  });

  it('is refused where something that is no layer lies among the layers', async () => {
    await makePool();
    const file = path.join(directory, 'layers', 'notes.txt');
    writeFileSync(file, '');
    expect(await refusal()).toMatchObject({ message: expect.stringContaining(file) });
  });

  it.each(['disks', 'snapshots', 'images'])(
    'is refused where the directory %s is missing, and keeps the layers that it named',
    async (name) => {
      const opened = await openDetachedPool(directory);
      await opened.disks.create({ name: 'a', size: anySize, options: thin, source: null });
      writePattern(opened, 'a', 1, 0, MiB);
      await opened.images.create({ name: 'golden', source: { kind: 'disk', id: 'a' } });
      await opened.disks.createSnapshot({ name: 's', diskId: 'a' });
      await opened.release();
      const layers = readdirSync(path.join(directory, 'layers'));
      const missing = path.join(directory, name);
      renameSync(missing, `${directory}-${name}`);
      const report = await checkPool(directory, noProgress);
      expect(report.problems).toMatchObject([{ code: 'graph-corrupt', file: missing }]);
      expect(await repairPool(directory, silentLogger, noProgress)).toMatchObject({ repaired: [] });
      expect(await refusal()).toMatchObject({ code: 'graph-corrupt', message: expect.stringContaining(missing) });
      expect(readdirSync(path.join(directory, 'layers'))).toEqual(layers);

      renameSync(`${directory}-${name}`, missing);
      const again = await openDetachedPool(directory);
      expectPattern(again, again.pool.disk('a').head, 1, 0, MiB);
      await again.release();
    },
  );

  it('is refused where a sealed layer changed its size, or an image is cut off', async () => {
    const { pool } = await makePool();
    const { path: file } = pool.chainLayer(pool.snapshot('s').layer);
    chmodSync(file, 0o600);
    execFileSync('qemu-img', ['resize', '-q', '-f', 'qcow2', file, '2G']);
    expect(await refusal()).toMatchObject({ code: 'layer-corrupt', message: expect.stringContaining(file) });
    truncateSync(file, 10);
    expect(await refusal()).toMatchObject({ code: 'image-header-invalid', message: expect.stringContaining(file) });
  });

  it.each(['the head', 'a sealed layer'])('is refused where the image of %s lost its end', async (which) => {
    const { pool } = await makePool();
    const { path: file } = pool.chainLayer(which === 'the head' ? pool.disk('a').head : pool.snapshot('s').layer);
    truncateSync(file, statSync(file).size - MiB / 2);
    expect(await refusal()).toMatchObject({
      code: 'layer-corrupt',
      message: expect.stringContaining(`${file} is cut off`),
    });
    const report = await checkPool(directory, noProgress);
    expect(report.problems).toMatchObject([{ code: 'layer-corrupt', file }]);
  });

  it('is served where a killed daemon had counted a cluster that it had not come to write', async () => {
    const { pool } = await makePool();
    const { path: file } = pool.chainLayer(pool.disk('a').head);
    countOneMoreCluster(file);
    expect(await reachesItsEnd(file)).toBe(false);
    const again = await openDetachedPool(directory);
    expectPattern(again, again.pool.disk('a').head, 2, 0, MiB);
    await again.release();
  });

  it('sets a torn record aside on repair, keeps what it may have named, and serves the others', async () => {
    const { pool } = await makePool();
    const lost = pool.disk('a').head;
    const file = path.join(directory, 'disks', 'a.json');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.slice(0, 40));
    const report = await repairPool(directory, silentLogger, noProgress);
    expect(report.repaired).toHaveLength(1);
    expect(existsSync(path.join(directory, 'set-aside', 'disks-a.json'))).toBe(true);

    const served = await openDetachedPool(directory);
    expectPattern(served, served.pool.disk('b').head, 1, 0, MiB);
    await served.disks.delete('b');
    await served.release();
    expect(existsSync(path.join(directory, 'layers', lost))).toBe(true);

    writeFileSync(file, text);
    removeDirectory(path.join(directory, 'set-aside'));
    const restored = await openDetachedPool(directory);
    expectPattern(restored, restored.pool.disk('a').head, 2, 0, MiB);
    await restored.release();
  });

  it('is clean again after repair of what an interrupted operation left', async () => {
    const { pool } = await makePool();
    mkdirSync(path.join(directory, 'tmp', 'lunfinished'));
    writeFileSync(path.join(directory, 'layers', pool.snapshot('s').layer, 'merge.qcow2'), 'half');
    const before = await checkPool(directory, noProgress);
    expect(before.leftovers).toHaveLength(2);
    expect(exitCode(before)).toBe(4);
    const after = await repairPool(directory, silentLogger, noProgress);
    expect(exitCode(after)).toBe(1);
    expect(await checkPool(directory, noProgress)).toMatchObject({ problems: [], leftovers: [] });
  });

  it('leaves what somebody put beside a layer where it is, and tells of it', async () => {
    const { pool } = await makePool();
    const layer = path.join(directory, 'layers', pool.disk('a').head);
    const names = ['layer.json', 'data.qcow2', 'data.qcow2.bak', 'lost+found', 'merge.qcow2'];
    writeFileSync(path.join(layer, 'data.qcow2.bak'), 'kept');
    mkdirSync(path.join(layer, 'lost+found'));
    // A merge is a file.
    mkdirSync(path.join(layer, 'merge.qcow2'));
    const foreign = names.slice(2).map((name) => path.join(layer, name));
    await (await openDetachedPool(directory)).release();
    expect(readdirSync(layer).sort()).toEqual(names.toSorted());
    const report = await checkPool(directory, noProgress);
    expect(report).toMatchObject({ problems: [], leftovers: [], foreign });
    expect(exitCode(report)).toBe(0);
    expect(await repairPool(directory, silentLogger, noProgress)).toMatchObject({ repaired: [], foreign });
    expect(readFileSync(path.join(layer, 'data.qcow2.bak'), 'utf8')).toBe('kept');
  });

  it('finds corruption inside of an image', async () => {
    const { pool } = await makePool();
    const { path: file } = pool.chainLayer(pool.disk('a').head);
    const image = readFileSync(file);
    // The refcount table's first entry: every cluster loses its refcount.
    image.fill(0, Number(image.readBigUInt64BE(48)), Number(image.readBigUInt64BE(48)) + 8);
    writeFileSync(file, image);
    const report = await checkPool(directory, noProgress);
    expect(report.problems).toMatchObject([{ code: 'layer-corrupt', file }]);
  });
});

/** Takes the cluster behind the last one of an image for used, as its refcounts have it. */
function countOneMoreCluster(file: string): void {
  const image = readFileSync(file);
  const clusterBytes = 2 ** image.readUInt32BE(20);
  const block = Number(image.readBigUInt64BE(Number(image.readBigUInt64BE(48))));
  image.writeUInt16BE(1, block + 2 * Math.ceil(image.length / clusterBytes));
  writeFileSync(file, image);
}

describe('a directory that is no pool', () => {
  let directory: string;
  beforeEach(() => {
    directory = temporaryDirectory();
  });
  afterEach(() => removeDirectory(directory));

  it('is refused where it holds somebody else’s files, and left as it is', async () => {
    writeFileSync(path.join(directory, 'thesis.tex'), 'x');
    await expect(openDetachedPool(directory)).rejects.toMatchObject({
      code: 'pool-foreign',
      message: expect.stringContaining('thesis.tex'),
    });
    expect(readdirSync(directory)).toEqual(['thesis.tex']);
  });

  it('is refused where it does not exist, and not created', async () => {
    const missing = path.join(directory, 'missing');
    await expect(openDetachedPool(missing)).rejects.toMatchObject({
      code: 'pool-missing',
      message: expect.stringContaining('is not there'),
    });
    expect(existsSync(missing)).toBe(false);
  });

  it('is refused on a file system that loses data', async () => {
    await expect(openDetachedPool('/dev/shm')).rejects.toMatchObject({ code: 'pool-unsupported' });
  });

  it('is refused where layers are there and pool.json is not', async () => {
    const opened = await openDetachedPool(directory);
    await opened.disks.create({ name: 'a', size: anySize, options: thin, source: null });
    await opened.release();
    renameSync(path.join(directory, 'pool.json'), path.join(directory, '..', `${path.basename(directory)}.json`));
    await expect(openDetachedPool(directory)).rejects.toMatchObject({ code: 'pool-foreign' });
    removeDirectory(path.join(directory, '..', `${path.basename(directory)}.json`));
  });

  it('stays as it is where there should be a pool in it, and is served as soon as there is', async () => {
    const refuse = async () => {
      throw new LaminaError('pool-missing', 'there was one');
    };
    await expect(lockPool(directory, refuse)).rejects.toMatchObject({ code: 'pool-missing' });
    expect(readdirSync(directory)).toEqual([]);
    await (await openDetachedPool(directory)).release();
    const { release } = await lockPool(directory, refuse);
    await release();
  });

  it('becomes a pool where its making was interrupted', async () => {
    mkdirSync(path.join(directory, 'layers'));
    mkdirSync(path.join(directory, 'tmp'));
    const opened = await openDetachedPool(directory);
    expect(opened.pool.disks.size).toBe(0);
    await opened.release();
  });
});

describe('a pool in use', () => {
  it('tells a second process who holds it', async () => {
    const directory = temporaryDirectory();
    const opened = await openDetachedPool(directory);
    await expect(openDetachedPool(directory)).rejects.toMatchObject({
      code: 'pool-locked',
      message: expect.stringContaining(`"pid":${process.pid}`),
    });
    await opened.release();
    await (await openDetachedPool(directory)).release();
    removeDirectory(directory);
  });
});
