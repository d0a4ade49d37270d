import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isLaminaError, LaminaError } from '../../src/lib/errors.ts';
import { acceptQcow2Header } from '../../src/transfer/import/accept-qcow2.ts';
import { probeFormat } from '../../src/transfer/import/probe-format.ts';
import { type DetachedPool, openDetachedPool, removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { ImageServer } from '../fakes/image-server.ts';
import { importContext, importFrom, makeImage } from '../import-scene.ts';

let directory: string;
let server: ImageServer;
let detached: DetachedPool;

beforeEach(async () => {
  directory = temporaryDirectory();
  server = await ImageServer.start();
  mkdirSync(path.join(directory, 'pool'));
  detached = await openDetachedPool(path.join(directory, 'pool'));
});
afterEach(async () => {
  await detached.release();
  await server.close();
  removeDirectory(directory);
});

const filesIn = (name: string) => readdirSync(path.join(detached.directory, name));
const importOf = (content: Buffer, more: object = {}) =>
  importFrom(importContext(detached), { url: server.put('/image', content), ...more });

/** What a guest would read, of any file. */
function guestBytes(file: string, format: string): Buffer {
  const raw = path.join(directory, 'guest.raw');
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', file, raw]);
  const bytes = readFileSync(raw);
  rmSync(raw);
  return bytes;
}

/** What disks that start from the image would read. */
function importedBytes(layer: string): Buffer {
  const { format } = detached.pool.layer(layer as never);
  return guestBytes(detached.pool.layout.layerData(layer as never, format), format);
}

function expectPattern(bytes: Buffer): void {
  expect(bytes.length).toBe(16 * 1024 * 1024);
  expect(bytes.subarray(0, 1024 * 1024).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(1024 * 1024, 4 * 1024 * 1024).every((byte) => byte === 0x41)).toBe(true);
}

describe('an image of another program', () => {
  it.each([
    ['vmdk', []],
    ['vmdk', ['-o', 'subformat=streamOptimized']],
    ['vdi', []],
    ['vdi', ['-o', 'static=on']],
    ['vhdx', []],
  ])('%s %s is converted', async (format, options) => {
    // What cannot be written to is made of what can.
    const raw = path.join(directory, 'source.raw');
    writeFileSync(raw, makeImage(directory, 'raw'));
    const file = path.join(directory, `source.${format}`);
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, raw, file]);
    const image = await importOf(readFileSync(file));
    expectPattern(importedBytes(image.layer));
    expect(filesIn('incoming')).toEqual([]);
  });

  it.each([
    ['vmdk', 'vmdk'],
    ['a vmdk that only describes other files', 'flat'],
    ['vdi', 'vdi'],
  ])('%s on another file is refused, and nothing is opened', async (_, kind) => {
    const content = hostile(kind);
    await expect(importOf(content)).rejects.toMatchObject({ code: 'image-refused' });
    expect([filesIn('incoming'), filesIn('layers')]).toEqual([[], []]);
  });

  function hostile(kind: string): Buffer {
    if (kind === 'vdi') {
      const content = makeImage(directory, 'vdi');
      content.writeUInt32LE(4, 76);
      content.fill(0x11, 440, 456);
      return content;
    }
    const content = makeImage(directory, 'vmdk');
    if (kind === 'flat') {
      content.writeBigUInt64LE(0n, 12);
      content.write('# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 8 FLAT "/etc/passwd" 0\n', 512, 'latin1');
      return content;
    }
    const text = content.toString('latin1', 512, 512 + 10_240).replace(/\0+$/, '');
    const changed = text.replace(/parentCID=f+/, 'parentCID=12345678\nparentFileNameHint="/etc/passwd"');
    content.fill(0, 512, 512 + 10_240);
    content.write(changed, 512, 'latin1');
    return content;
  }
});

describe('a compressed image', () => {
  const compress = (program: string, content: Buffer): Buffer =>
    execFileSync(program, ['-c'], { input: content, maxBuffer: 64 * 1024 * 1024 });

  it.each(['gzip', 'xz', 'zstd'])('%s is unpacked, whatever is in it, and nothing stays beside it', async (program) => {
    for (const format of ['qcow2', 'raw']) {
      const image = await importOf(compress(program, makeImage(directory, format)), { name: `${program}-${format}` });
      expectPattern(importedBytes(image.layer));
    }
    expect(filesIn('incoming')).toEqual([]);
  });

  it('of several streams is unpacked to its end', async () => {
    const content = makeImage(directory, 'raw');
    const half = content.length / 2;
    const parts = [content.subarray(0, half), content.subarray(half)].map((part) => compress('zstd', part));
    const image = await importOf(Buffer.concat(parts));
    expectPattern(importedBytes(image.layer));
  });

  it('that unpacks to more than was asked for is refused for good, long before the disk is full', async () => {
    const bomb = gzipSync(Buffer.alloc(256 * 1024 * 1024));
    await expect(importOf(bomb, { sizeBytes: 1024 * 1024 })).rejects.toMatchObject({ code: 'image-refused' });
    expect([filesIn('incoming'), filesIn('layers')]).toEqual([[], []]);
  });

  it.each(['gzip', 'xz', 'zstd'])('that is cut off (%s) is refused', async (program) => {
    const whole = compress(program, makeImage(directory, 'raw'));
    await expect(importOf(whole.subarray(0, whole.length - 20))).rejects.toMatchObject({ code: 'image-refused' });
    expect(filesIn('incoming')).toEqual([]);
  });
});

describe('a hostile qcow2', () => {
  const change = (work: (content: Buffer) => void) => {
    const content = makeImage(directory, 'qcow2');
    work(content);
    return content;
  };

  it.each<[string, (content: Buffer) => void]>([
    [
      'names a backing file',
      (content) => {
        content.writeBigUInt64BE(512n, 8);
        content.writeUInt32BE(11, 16);
        content.write('/etc/passwd', 512, 'latin1');
      },
    ],
    ['has an external data file', (content) => content.writeBigUInt64BE(4n, 72)],
    ['is encrypted', (content) => content.writeUInt32BE(1, 32)],
    ['has features that nobody knows', (content) => content.writeBigUInt64BE(1n << 40n, 72)],
    ['is marked as corrupt', (content) => content.writeBigUInt64BE(2n, 72)],
    ['is of an absurd size', (content) => content.writeBigUInt64BE(1n << 62n, 24)],
    ['is of no size', (content) => content.writeBigUInt64BE(0n, 24)],
    ['has an L1 table beyond its end', (content) => content.writeBigUInt64BE(1n << 40n, 40)],
    ['has a refcount table beyond its end', (content) => content.writeBigUInt64BE(1n << 40n, 48)],
    ['has an L1 table that is not aligned', (content) => content.writeBigUInt64BE(513n, 40)],
    ['has clusters of 2 GiB', (content) => content.writeUInt32BE(31, 20)],
    ['has a header that goes on for ever', (content) => content.writeUInt32BE(0xffff_ffff, 100)],
    ['has an extension that goes past its header', (content) => content.writeUInt32BE(0x7fff_ffff, 116)],
    ['has L2 tables that point at themselves', (content) => content.fill(0xff, 0x30000, 0x31000)],
    ['is a later version', (content) => content.writeUInt32BE(9, 4)],
  ])('that %s is refused, and nothing of it stays', async (_, work) => {
    await expect(importOf(change(work))).rejects.toMatchObject({ code: 'image-refused' });
    expect([filesIn('incoming'), filesIn('layers'), filesIn('images')]).toEqual([[], [], []]);
  });

  it('that is cut off is refused', async () => {
    const content = makeImage(directory, 'qcow2');
    await expect(importOf(content.subarray(0, 0x20000))).rejects.toMatchObject({ code: 'image-refused' });
    expect(existsSync(path.join(detached.directory, 'incoming/image_golden'))).toBe(false);
  });
});

describe('bytes from anywhere', () => {
  const refusalOrResult = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      if (!isLaminaError(error, 'image-refused')) throw error;
      expect(error).toBeInstanceOf(LaminaError);
    }
  };

  it('are refused or accepted by the parser of qcow2 headers, and never fail otherwise', () => {
    const header = makeImage(directory, 'qcow2').subarray(0, 4096);
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(600), byte: fc.nat(255) }), { maxLength: 24 }),
        fc.nat(4096),
        fc.nat(),
        (changes, length, fileBytes) => {
          const bytes = Buffer.from(header.subarray(0, length));
          for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
          refusalOrResult(() => acceptQcow2Header(bytes, fileBytes, 'fuzz'));
        },
      ),
      { numRuns: 20_000 },
    );
  });

  it('have a format, or are refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1024 }), (bytes) =>
        refusalOrResult(() => probeFormat(Buffer.from(bytes), 'fuzz')),
      ),
      { numRuns: 5000 },
    );
  });
});
