import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GiB, KiB, MiB, TiB } from '../../src/lib/bytes.ts';
import { recordImage } from '../../src/store/images.ts';
import { imageIdOf } from '../../src/store/ids.ts';
import { ClusterSet } from '../../src/transfer/users/cluster-set.ts';
import { clusterBitsFor, Qcow2View } from '../../src/transfer/users/qcow2-view.ts';
import {
  type DetachedPool,
  openDetachedPool,
  removeDirectory,
  temporaryDirectory,
  writePattern,
} from '../detached-pool.ts';
import { createDisk } from '../transfer-scene.ts';
import { remoteName, UserScene } from '../user-scene.ts';

describe('a QCOW2 file that is made as it is read', () => {
  let directory: string;
  beforeEach(() => {
    directory = temporaryDirectory();
  });
  afterEach(() => removeDirectory(directory));

  /** Writes the view out; data is `byte`, and left out where that is 0. @returns the file */
  async function writeOut(
    sizeBytes: number,
    byte: number,
    extents: { first: number; count: number }[],
  ): Promise<string> {
    const clusters = Math.ceil(sizeBytes / 2 ** clusterBitsFor(sizeBytes));
    const data = await ClusterSet.from(
      clusters,
      (async function* () {
        yield* extents;
      })(),
    );
    const view = new Qcow2View(sizeBytes, data);
    const file = path.join(directory, 'view.qcow2');
    writeFileSync(file, '');
    truncateSync(file, view.sizeBytes);
    const handle = openSync(file, 'r+');
    let at = 0;
    for (const part of view.parts(0, view.sizeBytes)) {
      if (part.kind === 'metadata') writeSync(handle, part.bytes, 0, part.bytes.length, at);
      else if (byte !== 0) writeSync(handle, Buffer.alloc(part.length, byte), 0, part.length, at);
      at += part.kind === 'metadata' ? part.bytes.length : part.length;
    }
    closeSync(handle);
    expect(at).toBe(view.sizeBytes);
    return file;
  }

  const info = (file: string) =>
    JSON.parse(execFileSync('qemu-img', ['info', '--output=json', file], { encoding: 'utf8' }));
  const check = (file: string) =>
    JSON.parse(execFileSync('qemu-img', ['check', '-f', 'qcow2', '--output=json', file], { encoding: 'utf8' }));

  it.each([
    ['nothing in it', MiB, []],
    ['one cluster', MiB, [{ first: 3, count: 1 }]],
    ['a last cluster that is not whole', MiB + 4 * KiB, [{ first: 16, count: 1 }]],
    [
      'data far apart',
      100 * GiB,
      [
        { first: 0, count: 1 },
        { first: 9000, count: 20 },
        { first: 1_600_000, count: 3 },
      ],
    ],
    ['several refcount blocks', 8 * GiB, [{ first: 10, count: 120_000 }]],
    [
      'several clusters of L1',
      5 * TiB,
      [
        { first: 12, count: 1 },
        { first: 9_000_000, count: 1 },
      ],
    ],
    [
      'the biggest size',
      16 * TiB - 4 * KiB,
      [
        { first: 0, count: 1 },
        { first: 2 ** 24 - 1, count: 1 },
      ],
    ],
  ])('is sound with %s', async (_, sizeBytes, extents) => {
    const file = await writeOut(sizeBytes, 0, extents);
    // What there is none of is not in the report.
    expect(Object.keys(check(file)).filter((key) => key === 'corruptions' || key === 'leaks')).toEqual([]);
    expect(info(file)['virtual-size']).toBe(sizeBytes);
  });

  it('has the data where the disk has it', async () => {
    const file = await writeOut(64 * MiB, 7, [
      { first: 5, count: 300 },
      { first: 900, count: 10 },
    ]);
    const raw = path.join(directory, 'raw');
    writeFileSync(raw, '');
    truncateSync(raw, 64 * MiB);
    for (const [from, length] of [
      [5, 300],
      [900, 10],
    ] as const)
      execFileSync('qemu-io', ['-f', 'raw', '-c', `write -P 7 ${from * 64}k ${length * 64}k`, raw]);
    execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', file, raw]);
  });
});

describe('export', () => {
  let directory: string;
  let opened: DetachedPool;
  let scene: UserScene;

  beforeEach(async () => {
    directory = temporaryDirectory();
    const pool = path.join(directory, 'pool');
    mkdirSync(pool);
    opened = await openDetachedPool(pool);
    await createDisk(opened, 'a', GiB);
    for (const n of [1, 2, 3]) {
      writePattern(opened, 'a', n, n * 100 * MiB, 3 * MiB);
      writePattern(opened, 'a', n, 0, MiB);
      await opened.disks.createSnapshot({ name: `s${n}`, diskId: 'a' });
    }
    scene = await UserScene.create(directory, { pool: opened.pool });
  });
  afterEach(async () => {
    await scene.close();
    await opened.compactor.settled();
    await opened.release();
    expect(daemons()).toEqual([]);
    expect(readdirSync(directory).filter((name) => name.startsWith('export-'))).toEqual([]);
    removeDirectory(directory);
  });

  /** Processes that have a file of this test in their arguments. */
  const daemons = () =>
    readdirSync('/proc').filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
      } catch {
        return false;
      }
    });
  const ask = (method: string, where: string, headers = {}) => scene.ask(method, where, headers);
  const layerOf = (snapshot: string) => opened.pool.chainLayer(opened.pool.snapshot(snapshot).layer).path;
  const expectSame = (file: string, format: string, snapshot: string) =>
    execFileSync('qemu-img', ['compare', '-f', format, '-F', 'qcow2', file, layerOf(snapshot)]);

  it('gives a chain as one QCOW2 file without backing file, and as a raw one', async () => {
    const qcow2 = path.join(directory, 'out.qcow2');
    await scene.curl('/volumesnapshots/s2/disk.qcow2', '-o', qcow2);
    expectSame(qcow2, 'qcow2', 's2');
    const text = execFileSync('qemu-img', ['check', '-f', 'qcow2', '--output=json', qcow2], { encoding: 'utf8' });
    expect(JSON.parse(text)).toMatchObject({ 'check-errors': 0 });
    const info = JSON.parse(execFileSync('qemu-img', ['info', '--output=json', qcow2], { encoding: 'utf8' }));
    expect(info['backing-filename']).toBeUndefined();
    expect(info['actual-size']).toBeLessThan(10 * MiB);
    const raw = path.join(directory, 'out.raw');
    await scene.curl('/volumesnapshots/s3/disk.raw', '-o', raw);
    expectSame(raw, 'raw', 's3');
  });

  it('gives an image', async () => {
    const { layer } = opened.pool.snapshot('s1');
    const facts = { id: imageIdOf('golden'), name: 'golden', filesystem: null, digest: null };
    await recordImage(opened.pool, facts, layer);
    const file = path.join(directory, 'out.qcow2');
    await scene.curl('/diskimages/golden/disk.qcow2', '-o', file);
    expectSame(file, 'qcow2', 's1');
    await ask('HEAD', '/diskimages/golden/disk.qcow2');
    expect(scene.moves).toEqual([{ kind: 'export', bytes: statSync(file).size, result: 'done' }]);
  });

  it.each(['qcow2', 'raw'])(
    'gives ranges of a %s file that fit together, with the chain compacted in between',
    async (format) => {
      const where = `/volumesnapshots/s3/disk.${format}`;
      const { headers } = await ask('HEAD', where);
      const sizeBytes = Number(headers['content-length']);
      const whole = format === 'qcow2' ? (await ask('GET', where)).body : undefined;
      const cuts = [0, 1, 512, 70 * KiB, 200 * KiB, MiB + 3, 100 * MiB, 101 * MiB + 5, sizeBytes];
      const bounds = format === 'qcow2' ? cuts.map((cut) => Math.min(cut, sizeBytes)) : cuts;
      const file = path.join(directory, 'out');
      writeFileSync(file, '');
      const handle = openSync(file, 'r+');
      for (let index = 1; index < bounds.length; index++) {
        const [start = 0, end = 0] = [bounds[index - 1], bounds[index]];
        if (start === end) continue;
        if (index === 4) {
          await opened.disks.deleteSnapshot('s1');
          await opened.disks.deleteSnapshot('s2');
          await opened.compactor.settled();
          expect(opened.pool.chain(opened.pool.snapshot('s3').layer)).toHaveLength(1);
        }
        const part = await ask('GET', where, { range: `bytes=${start}-${end - 1}`, 'if-range': headers.etag ?? '' });
        expect(part.status).toBe(206);
        expect(part.headers['content-range']).toBe(`bytes ${start}-${end - 1}/${sizeBytes}`);
        if (whole) expect(part.body.equals(whole.subarray(start, end))).toBe(true);
        writeSync(handle, part.body, 0, part.body.length, start);
      }
      closeSync(handle);
      expectSame(file, format, 's3');
    },
  );

  it('says what cannot be, and gives all where the file is another than it was', async () => {
    const where = '/volumesnapshots/s3/disk.qcow2';
    const { headers } = await ask('HEAD', where);
    expect(headers['accept-ranges']).toBe('bytes');
    const size = headers['content-length'];
    const beyond = await ask('GET', where, { range: `bytes=${size}-` });
    expect([beyond.status, beyond.headers['content-range']]).toEqual([416, `bytes */${size}`]);
    expect((await ask('GET', where, { range: 'bytes=0-9', 'if-range': '"other"' })).status).toBe(200);
    const head = await ask('HEAD', where, { range: 'bytes=0-9' });
    expect([head.status, head.headers['content-length'], head.headers['content-range']]).toEqual([
      200,
      size,
      undefined,
    ]);
    for (const odd of ['bytes=9-5', 'bytes=0-1,5-6', 'bytes=-', 'lines=0-9', 'bytes=0x0-0x9', 'bytes= 0-9']) {
      const whole = await ask('GET', where, { range: odd, 'if-match': headers.etag ?? '' });
      expect([odd, whole.status, whole.body.length]).toEqual([odd, 200, Number(size)]);
    }
    expect((await ask('GET', where, { range: 'bytes=-0' })).status).toBe(416);
    const tail = await ask('GET', where, { range: 'bytes=-999999999999999' });
    expect([tail.status, tail.body.length]).toEqual([206, Number(size)]);
    expect((await ask('GET', where, { 'if-match': '"other"' })).status).toBe(412);
    expect((await ask('GET', '/volumesnapshots/none/disk.raw')).status).toBe(404);
    expect((await ask('GET', '/diskimages/none/disk.raw')).status).toBe(404);
    expect((await ask('GET', '/volumesnapshots/s3/disk.vmdk')).status).toBe(400);
    expect((await ask('DELETE', where)).status).toBe(400);
    expect((await ask('GET', '/layers/x')).status).toBe(400);
  });

  it('is for those whose token may, and tells others nothing of what there is', async () => {
    const where = '/volumesnapshots/s3/disk.raw';
    expect((await ask('HEAD', where, { authorization: '' })).status).toBe(401);
    expect((await ask('HEAD', where, { authorization: 'Basic Z29vZA==' })).status).toBe(401);
    expect((await ask('HEAD', where, { authorization: 'Bearer bad' })).status).toBe(401);
    const forbidden = await ask('GET', where, { authorization: 'Bearer poor' });
    const nothing = await ask('GET', '/volumesnapshots/none/disk.raw', { authorization: 'Bearer poor' });
    expect([forbidden.status, nothing.status]).toEqual([403, 403]);
    expect(scene.asked).toContainEqual([
      'poor',
      {
        action: 'export',
        namespace: 'media',
        resource: 'volumesnapshots',
        name: 's3',
        format: 'raw',
        headOnly: false,
      },
    ]);
    expect(scene.log.entries.filter(({ message }) => message === 'exporting a disk')).toEqual([]);
  });

  it('says which node has what is elsewhere, to those who may have it', async () => {
    const where = `/volumesnapshots/${remoteName}/disk.raw`;
    const answer = await ask('GET', where);
    expect(answer.status).toBe(421);
    expect(JSON.parse(answer.body.toString())).toMatchObject({
      code: 'misdirected',
      nodeName: 'worker-2',
      address: '10.0.0.2:9444',
      serverName: 'worker-2.node.lamina.storage',
    });
    expect((await ask('GET', where, { authorization: 'Bearer poor' })).status).toBe(403);
  });

  it('uses one daemon for many who read the same, and ends it when they do not come back', async () => {
    const where = '/volumesnapshots/s3/disk.raw';
    const range = { range: 'bytes=0-99' };
    const parts = await Promise.all(Array.from({ length: 10 }, () => ask('GET', where, range)));
    expect(parts.every(({ body }) => body.equals(Buffer.alloc(100, 3)))).toBe(true);
    expect(daemons()).toHaveLength(1);
    await ask('GET', '/volumesnapshots/s2/disk.raw', range);
    expect(daemons()).toHaveLength(2);
    await scene.exports.close();
    expect(daemons()).toEqual([]);
    expect((await ask('GET', where, range)).status).toBe(206);
  });

  it('starts another daemon where the one that it had has died', async () => {
    const where = '/volumesnapshots/s3/disk.raw';
    expect((await ask('GET', where, { range: 'bytes=0-99' })).status).toBe(206);
    const [daemon] = daemons();
    process.kill(Number(daemon), 'SIGKILL');
    await expect.poll(() => daemons()).toEqual([]);
    // Whoever reads goes on at once, again and again.
    await expect
      .poll(() =>
        ask('GET', where, { range: 'bytes=100-199' }).then(
          ({ body }) => body,
          () => null,
        ),
      )
      .toEqual(Buffer.alloc(100, 3));
    expect(daemons()).toHaveLength(1);
  });

  it('keeps a snapshot that is deleted while it is read', async () => {
    const where = '/volumesnapshots/s3/disk.raw';
    const before = await ask('GET', where, { range: 'bytes=0-99' });
    expect(before.status).toBe(206);
    const layers = opened.pool.layers.size;
    await opened.disks.delete('a');
    for (const id of ['s1', 's2', 's3']) await opened.disks.deleteSnapshot(id);
    expect(opened.pool.layers.size).toBeGreaterThan(0);
    expect(opened.pool.layers.size).toBeLessThan(layers);
    await opened.compactor.settled();
    await scene.exports.close();
    expect(opened.pool.layers.size).toBe(0);
  });
});
