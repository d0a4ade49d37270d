import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KiB, MiB, TiB } from '../../src/lib/bytes.ts';
import { type ImportContext, isFinalImportFailure } from '../../src/transfer/import/import-request.ts';
import { type DetachedPool } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { importFrom, ImportPool, makeImage } from '../import-scene.ts';
import { processesNaming } from '../standalone.ts';

let pool: ImportPool;
let directory: string;
let detached: DetachedPool;
let context: ImportContext;
let server: ImageServer;
beforeAll(async () => {
  pool = await ImportPool.open();
  ({ directory, detached, context } = pool);
  server = await ImageServer.start();
});
afterAll(async () => {
  await server.close();
  await pool.remove();
});

let count = 0;
async function expectRefused(bytes: Buffer, message: RegExp): Promise<void> {
  const name = `bad-${count++}`;
  const failure: unknown = await importFrom(context, { name, url: server.put('/a', bytes), format: 'raw' }).catch(
    (error: unknown) => error,
  );
  expect(failure).toMatchObject({ code: 'image-refused', message: expect.stringMatching(message) });
  expect(isFinalImportFailure(failure)).toBe(true);
  expect([detached.pool.images.size, detached.pool.layers.size]).toEqual([0, 0]);
  expect(['incoming', 'tmp'].flatMap((each) => readdirSync(path.join(detached.directory, each)))).not.toContain(
    `image_${name}`,
  );
  expect(await processesNaming(directory)).toEqual([]);
}

type Change = (bytes: Buffer) => unknown;
type Case = readonly [what: string, change: Change, message: RegExp];

const made = new Map<string, Buffer>();

/** A copy of a good image, with something done to it. */
function bad(format: string, change: Change, options: readonly string[] = []): Buffer {
  const key = [format, ...options].join(' ');
  const good = made.get(key) ?? makeImage(directory, format, options);
  made.set(key, good);
  const bytes = Buffer.from(good);
  const changed = change(bytes);
  return Buffer.isBuffer(changed) ? changed : bytes;
}

/** As qemu-img makes it, without data. */
function created(args: readonly string[]): Buffer {
  const file = path.join(directory, 'created');
  execFileSync('qemu-img', ['create', '-q', ...args.map((arg) => (arg === 'FILE' ? file : arg))]);
  return readFileSync(file);
}

const big =
  (value: number | bigint, at: number): Change =>
  (bytes) =>
    void bytes.writeBigUInt64BE(BigInt(value), at);
const small =
  (value: number, at: number): Change =>
  (bytes) =>
    void bytes.writeUInt32BE(value, at);
const little =
  (value: number, at: number): Change =>
  (bytes) =>
    void bytes.writeUInt32LE(value, at);
const bigLittle =
  (value: number | bigint, at: number): Change =>
  (bytes) =>
    void bytes.writeBigUInt64LE(BigInt(value), at);
const fill =
  (at: number, length: number, byte = 0xff): Change =>
  (bytes) =>
    void bytes.fill(byte, at, at + length);
const cut =
  (to: number): Change =>
  (bytes) =>
    bytes.subarray(0, to);
const l1Offset = (bytes: Buffer) => Number(bytes.readBigUInt64BE(40));
const refcountOffset = (bytes: Buffer) => Number(bytes.readBigUInt64BE(48));

describe('a qcow2 is refused', () => {
  it.each(['/etc/passwd', 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}'])(
    'that names a backing file: %s',
    (backing) =>
      expectRefused(
        created(['-f', 'qcow2', '-u', '-b', backing, '-F', 'raw', 'FILE', '16M']),
        /names the backing file '.*make it whole/,
      ),
  );

  it('that keeps its data in another file', async () => {
    const options = `data_file=${directory}/other,data_file_raw=on`;
    await expectRefused(created(['-f', 'qcow2', '-o', options, 'FILE', '16M']), /keeps its data in another file/);
  });

  it('that names another file for its data in an extension only', () =>
    expectRefused(
      bad('qcow2', (bytes) => {
        const at = bytes.readUInt32BE(100);
        bytes.writeUInt32BE(0x44415441, at);
        bytes.writeUInt32BE(11, at + 4);
        bytes.write('/etc/passwd', at + 8, 'latin1');
      }),
      /keeps its data in another file/,
    ));

  it('that is encrypted', async () => {
    const secret = [
      '--object',
      'secret,id=s,data=abc',
      '-o',
      'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10',
    ];
    await expectRefused(created([...secret, '-f', 'qcow2', 'FILE', '16M']), /is encrypted/);
  });

  it.each<Case>([
    ['with features that nobody knows', big(1n << 40n, 72), /unknown incompatible features/],
    ['of an absurd size', big(1n << 62n, 24), /a virtual size of/],
    ['bigger than a disk can be', big(17 * TiB, 24), /L1 table too small|the most is/],
    ['of no size', big(0, 24), /0 bytes/],
    ['whose L1 table is too short', small(0, 36), /L1 table too small/],
    ['whose L1 table is absurdly long', small(0xffff_ffff, 36), /absurd L1 table/],
    ['whose L1 table is behind its end', big(1n << 40n, 40), /L1 table beyond its end/],
    ['whose L1 table lies between clusters', big(64 * KiB + 8, 40), /L1 table beyond its end/],
    ['whose refcount table is behind its end', big(1n << 40n, 48), /refcount table beyond its end/],
    ['whose refcount table is absurdly long', small(0xffff_ffff, 56), /an absurd refcount table/],
    ['with absurdly many snapshots', small(0xffff_ffff, 60), /snapshot table beyond its end/],
    ['whose table of snapshots is behind its end', (b: Buffer) => (small(1, 60)(b), big(1n << 50n, 64)(b)), /snapshot/],
    [
      'with an extension that runs past the header',
      (b: Buffer) => fill(b.readUInt32BE(100), 8, 0x7f)(b),
      /extension out of bounds/,
    ],
    ['with a header that is longer than any', small(0x7fff_ffff, 100), /a header of/],
    ['with absurd clusters', small(40, 20), /clusters of 2\^40/],
    ['of an unknown version', small(4, 4), /version 4/],
    ['that is marked as corrupt', big(2, 72), /marked as corrupt/],
    ['of which only the start is there', cut(100), /missing or cut off/],
    ['that is cut off behind its tables', cut(1.5 * MiB), /damaged|QEMU cannot read it/],
    [
      'with a table that points to itself',
      (b: Buffer) => big(BigInt(l1Offset(b)) | (1n << 63n), l1Offset(b))(b),
      /damaged/,
    ],
    [
      'with a refcount table that is its own block',
      (b: Buffer) => big(refcountOffset(b), refcountOffset(b))(b),
      /damaged|QEMU/,
    ],
    ['with a table behind its end', (b: Buffer) => big((1n << 50n) | (1n << 63n), l1Offset(b))(b), /damaged|QEMU/],
  ])('%s', async (_, change, message) => {
    await expectRefused(bad('qcow2', change), message);
  });

  it('whose compressed clusters are no such thing', async () => {
    const raw = path.join(directory, 'raw');
    writeFileSync(raw, Buffer.alloc(MiB, 'compressible '));
    execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, `${raw}.qcow2`]);
    const bytes = readFileSync(`${raw}.qcow2`);
    const l2 = Number(bytes.readBigUInt64BE(l1Offset(bytes)) & 0x00ff_ffff_ffff_fe00n);
    const data = Number(bytes.readBigUInt64BE(l2) & ((1n << 54n) - 1n));
    bytes.fill(0xff, data, data + 64);
    await expectRefused(bytes, /QEMU cannot read it/);
  });

  it('is taken where it was only not closed', async () => {
    const image = await importFrom(context, { name: 'dirty', url: server.put('/a', bad('qcow2', big(1, 72))) });
    expect(image.sizeBytes).toBe(16 * MiB);
    await detached.images.delete(image.id);
    await detached.compactor.settled();
  });
});

/** Puts another text in the place of one that is as long or longer. */
const replace =
  (from: string, to: string): Change =>
  (bytes) => {
    const at = bytes.indexOf(from);
    if (at < 0) throw new Error(`no ${from}`);
    bytes.write(to, at, 'latin1');
  };

function descriptor(type: string, lines: readonly string[]): string {
  return [
    '# Disk DescriptorFile',
    'version=1',
    'CID=12345678',
    'parentCID=ffffffff',
    `createType="${type}"`,
    ...lines,
    '',
  ].join('\n');
}

/** A descriptor in place of the one that is in the image, over all of its sectors. */
const describedAs =
  (text: string): Change =>
  (bytes) => {
    bytes.fill(0, 512, 512 * 21);
    bytes.write(text, 512, 'latin1');
  };

describe('a vmdk is refused', () => {
  const passwd = descriptor('monolithicFlat', ['RW 8 FLAT "/etc/passwd" 0']);
  it.each<Case>([
    ['that is a descriptor', () => Buffer.from(passwd), /descriptor of a VMDK/],
    [
      'that is a descriptor behind a header',
      (b: Buffer) => (describedAs(passwd)(b), bigLittle(0, 12)(b)),
      /no data of its own/,
    ],
    ['that has its data in other files', describedAs(passwd), /data is in other files/],
    [
      'with two extents',
      describedAs(descriptor('monolithicSparse', ['RW 8 SPARSE "a"', 'RW 8 SPARSE "/etc/passwd"'])),
      /in other files/,
    ],
    [
      'with a flat extent',
      describedAs(descriptor('monolithicSparse', ['RW 8 FLAT "/etc/passwd" 0'])),
      /in other files/,
    ],
    ['without an extent', describedAs(descriptor('monolithicSparse', [])), /in other files/],
    ['with a parent', replace('parentCID=ffffffff', 'parentCID=12345678'), /has a parent/],
    ['that names a parent', replace('# The Disk Data Base', 'parentFileNameHint="/'), /names a parent/],
    [
      'that names a parent where only QEMU looks',
      (b: Buffer) => void b.write('parentFileNameHint="/etc/passwd"', 4096, 'latin1'),
      /names a parent/,
    ],
    ['that is one of several files', bigLittle(0, 28), /one of several files/],
    ['with an absurd descriptor', bigLittle(1n << 40n, 36), /absurd descriptor/],
    ['with a descriptor behind its end', bigLittle(1n << 40n, 28), /beyond its end/],
    ['with a descriptor further than numbers go', bigLittle((1n << 64n) - 1n, 28), /beyond its end/],
    ['of an absurd size', bigLittle(1n << 60n, 12), /more than there can be/],
    ['bigger than a disk can be', bigLittle(1n << 37n, 12), /the most is/],
    ['without the end that it names', bigLittle((1n << 64n) - 1n, 56), /footer/],
    ['of which only the start is there', cut(300), /cut off/],
    ['of which only the header is there', cut(512), /cut off/],
    ['with data behind its end', cut(512 * 200), /damaged|QEMU cannot read it/],
  ])('%s', async (_, change, message) => {
    await expectRefused(bad('vmdk', change), message);
  });
});

describe('a vdi is refused', () => {
  it.each<Case>([
    ['that holds what differs from another', little(4, 0x4c), /has a parent/],
    ['with a parent', fill(0x1b8, 16), /has a parent/],
    ['with a link', fill(0x1a8, 16), /has a parent/],
    ['of an unknown version', little(7, 0x44), /unknown version/],
    ['of an absurd size', bigLittle(1n << 62n, 0x170), /too small for its size/],
    ['of no size', bigLittle(0, 0x170), /0 bytes/],
    ['with an absurd map', little(0xffff_ffff, 0x180), /block map lies beyond its end/],
    ['with a map behind its end', little(0x7fff_fe00, 0x154), /block map lies beyond its end/],
    ['with blocks behind its end', fill(0x200, 4, 0x7f), /damaged|QEMU cannot read it/],
    ['of which only the start is there', cut(400), /cut off/],
  ])('%s', async (_, change, message) => {
    await expectRefused(bad('vdi', change), message);
  });
});

/** Where an item's entry is. */
const entryOf =
  (id: string) =>
  (bytes: Buffer): number =>
    bytes.indexOf(Buffer.from(id, 'hex'), 64 * KiB);
const parameters = entryOf('3767a1ca36fa434db3b633f0aa44e76b');
const diskSize = entryOf('2442a52f1bcd7648b2115dbed83bf4b8');
const sectorSize = entryOf('1dbf41816fa90947ba47f233a8faab5f');
const metadata = (bytes: Buffer) =>
  Number(bytes.readBigUInt64LE(entryOf('06a27c8b90479a4bb8fe575f050f886e')(bytes) + 16));
const itemAt = (bytes: Buffer, entry: number) => metadata(bytes) + bytes.readUInt32LE(entry + 16);

describe('a vhdx is refused', () => {
  it.each<Case>([
    ['that holds what differs from another', (b: Buffer) => little(2, itemAt(b, parameters(b)) + 4)(b), /has a parent/],
    [
      'that names a parent',
      (b: Buffer) => void b.write('2d5fd3a80bb34d45abf7d3d84834ab0c', sectorSize(b), 'hex'),
      /has a parent/,
    ],
    ['that does not say its size', (b: Buffer) => fill(diskSize(b), 16)(b), /does not say its size/],
    ['of an absurd size', (b: Buffer) => bigLittle(1n << 62n, itemAt(b, diskSize(b)))(b), /more than there can be/],
    ['bigger than a disk can be', (b: Buffer) => bigLittle(17 * TiB, itemAt(b, diskSize(b)))(b), /the most is/],
    ['without regions', fill(192 * KiB, 4, 0), /without a table of regions/],
    ['with absurdly many regions', little(0xffff_ffff, 192 * KiB + 8), /absurd table/],
    ['with an empty table', little(0, 192 * KiB + 8), /lacks its metadata/],
    ['whose table was changed', fill(192 * KiB + 512, 8), /QEMU cannot read it/],
    [
      'with metadata behind its end',
      (b: Buffer) => fill(entryOf('06a27c8b90479a4bb8fe575f050f886e')(b) + 16, 6)(b),
      /beyond its end/,
    ],
    ['of which only the start is there', cut(200 * KiB), /cut off/],
  ])('%s', async (_, change, message) => {
    await expectRefused(bad('vhdx', change), message);
  });
});

describe('what is no disk image is refused', () => {
  const head = (text: string) => Buffer.concat([Buffer.from(text, 'latin1'), Buffer.alloc(4096)]);
  it.each([
    ['nothing', Buffer.alloc(0), /is empty/],
    ['a page', Buffer.from('<!DOCTYPE html><p>404'), /page for people/],
    ['a VHD', head('conectix'), /a VHD image/],
    ['a VHD of fixed size', Buffer.concat([Buffer.alloc(MiB, 1), head('conectix').subarray(0, 512)]), /a VHD image/],
    ['a ZIP', head('PK\u0003\u0004'), /a ZIP archive/],
    ['a RAR', head('Rar!\u001a\u0007\u0001'), /a RAR archive/],
    ['a cpio archive', head('070701'), /a cpio archive/],
    ['what is compressed with lz4', head('\u0004"M\u0018'), /compressed with lz4/],
    ['what Git LFS keeps', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), /Git LFS/],
    ['a bomb of gzip', execFileSync('sh', ['-c', 'head -c 20M /dev/zero | gzip | gzip']), /inside of another/],
  ] as const)('%s', async (_, bytes, message) => {
    await expectRefused(bytes, message);
  });
});
