import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GiB, KiB, MiB } from '../../../../src/lib/bytes.ts';
import { isLaminaError } from '../../../../src/lib/errors.ts';
import { qcow2HeaderBytes } from '../../../../src/qemu/qcow2-header.ts';
import { acceptQcow2Header } from '../../../../src/transfer/import/accept-qcow2.ts';
import { acceptVdi } from '../../../../src/transfer/import/accept-vdi.ts';
import { acceptVhdx } from '../../../../src/transfer/import/accept-vhdx.ts';
import { acceptVmdk } from '../../../../src/transfer/import/accept-vmdk.ts';
import { assertInside, type ForeignFile } from '../../../../src/transfer/import/foreign-file.ts';
import { compressionOf, probeFormat } from '../../../../src/transfer/import/probe-format.ts';

/** More reads of a file than any parser needs: it goes round in a circle. */
const maxReads = 100;

/** A file of `bytes`, followed by zeroes up to `sizeBytes`. */
function fileOf(bytes: Buffer, sizeBytes = bytes.length): ForeignFile {
  let reads = 0;
  const read = async (offset: number, length: number, what: string) => {
    if (reads++ > maxReads) throw new Error('it does not come to an end');
    assertInside({ name: 'x', sizeBytes }, offset + length, what);
    const found = Buffer.alloc(length);
    bytes.copy(found, 0, offset, offset + length);
    return found;
  };
  return { name: 'x', sizeBytes, read };
}

const qcow2 = Buffer.alloc(qcow2HeaderBytes);
qcow2.writeUInt32BE(0x514649fb, 0);
qcow2.writeUInt32BE(3, 4);
qcow2.writeUInt32BE(16, 20);
qcow2.writeBigUInt64BE(BigInt(16 * MiB), 24);
qcow2.writeUInt32BE(1, 36);
qcow2.writeBigUInt64BE(BigInt(192 * KiB), 40);
qcow2.writeBigUInt64BE(BigInt(64 * KiB), 48);
qcow2.writeUInt32BE(1, 56);
qcow2.writeUInt32BE(104, 100);

const vmdk = Buffer.alloc(11 * KiB);
vmdk.write('KDMV', 0);
vmdk.writeBigUInt64LE(32768n, 12);
vmdk.writeBigUInt64LE(1n, 28);
vmdk.writeBigUInt64LE(2n, 36);
vmdk.write('parentCID=ffffffff\ncreateType="monolithicSparse"\nRW 32768 SPARSE "a"\n', 512);

const vdi = Buffer.alloc(KiB);
vdi.writeUInt32LE(0x0001_0001, 0x44);
vdi.writeUInt32LE(1, 0x4c);
vdi.writeUInt32LE(512, 0x154);
vdi.writeBigUInt64LE(BigInt(16 * MiB), 0x170);
vdi.writeUInt32LE(MiB, 0x178);
vdi.writeUInt32LE(16, 0x180);

const metadataOffset = MiB;
const vhdx = Buffer.alloc(metadataOffset + 65 * KiB);
const regionTable = vhdx.subarray(192 * KiB);
regionTable.write('regi', 0);
regionTable.writeUInt32LE(2, 8);
for (const [index, id] of ['6677c22d23f600429d64115e9bfd4a08', '06a27c8b90479a4bb8fe575f050f886e'].entries()) {
  regionTable.write(id, 16 + index * 32, 'hex');
  regionTable.writeBigUInt64LE(BigInt(metadataOffset), 32 + index * 32);
  regionTable.writeUInt32LE(64 * KiB, 40 + index * 32);
}
const metadata = vhdx.subarray(metadataOffset);
metadata.write('metadata', 0);
metadata.writeUInt16LE(2, 10);
for (const [index, id] of ['3767a1ca36fa434db3b633f0aa44e76b', '2442a52f1bcd7648b2115dbed83bf4b8'].entries()) {
  metadata.write(id, 32 + index * 32, 'hex');
  metadata.writeUInt32LE(64 * KiB + index * 8, 48 + index * 32);
}
metadata.writeBigUInt64LE(BigInt(16 * MiB), 64 * KiB + 8);

const parsers = {
  qcow2: {
    good: qcow2,
    parse: async (bytes: Buffer) => acceptQcow2Header(bytes, 256 * KiB, 'x').virtualSizeBytes,
    /** Where something stands. */
    fields: [0, 120],
  },
  vmdk: { good: vmdk, parse: (bytes: Buffer) => acceptVmdk(fileOf(bytes)), fields: [0, 700] },
  vdi: { good: vdi, parse: (bytes: Buffer) => acceptVdi(fileOf(bytes)), fields: [0x40, 0x1c8] },
  vhdx: { good: vhdx, parse: (bytes: Buffer) => acceptVhdx(fileOf(bytes)), fields: [192 * KiB, 192 * KiB + 100] },
  'vhdx with metadata': {
    good: vhdx,
    parse: (bytes: Buffer) => acceptVhdx(fileOf(bytes)),
    fields: [metadataOffset, metadataOffset + 100],
  },
} as const;

describe.each(Object.entries(parsers))('the header of a %s', (_, { good, parse, fields }) => {
  const [from, to] = fields;

  /** Gives a size that can be, or refuses; nothing else. */
  async function expectVerdict(bytes: Buffer): Promise<void> {
    try {
      expect(await parse(bytes)).toSatisfy((size: number) => Number.isSafeInteger(size) && size > 0);
    } catch (error) {
      if (!isLaminaError(error, 'image-refused')) throw error;
      expect(error.message).toMatch(/^x /);
    }
  }

  it('is understood', async () => {
    expect(await parse(good)).toBe(16 * MiB);
  });

  it('gets a verdict, whatever stands in a few fields of it', async () => {
    const value = fc.oneof(
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc.constantFrom(0n, 1n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n, 1n << 53n, 0xffff_ffffn),
    );
    const change = fc.record({ at: fc.integer({ min: from, max: to - 8 }), value, bigEndian: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        const bytes = Buffer.from(good);
        for (const { at, value: written, bigEndian } of changes) {
          if (bigEndian) bytes.writeBigUInt64BE(written, at);
          else bytes.writeBigUInt64LE(written, at);
        }
        await expectVerdict(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it('gets a verdict wherever it is cut off', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.nat(good.length), fc.nat(1024)), async (length) => {
        await expectVerdict(good.subarray(0, length));
      }),
      { numRuns: 300 },
    );
  });

  it('gets a verdict where it is noise', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 8192 }), async (noise) => {
        const bytes = Buffer.from(good);
        bytes.set(noise.subarray(0, Math.min(noise.length, bytes.length - from)), from);
        await expectVerdict(bytes);
        await expectVerdict(Buffer.from(noise));
      }),
      { numRuns: 300 },
    );
  });
});

it('the format of any bytes is one that is known, or they are refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 1024 }), (bytes) => {
      const head = Buffer.from(bytes);
      compressionOf(head);
      try {
        expect(['raw', 'qcow2', 'vmdk', 'vdi', 'vhdx']).toContain(probeFormat(head, 'x'));
      } catch (error) {
        if (!isLaminaError(error, 'image-refused')) throw error;
      }
    }),
  );
});

it('a qcow2 is converted whose file is bigger than other nodes take for a layer', () => {
  const accepted = (fileBytes: number) => acceptQcow2Header(qcow2, fileBytes, 'x').asItIs;
  expect([accepted(256 * KiB), accepted(GiB), accepted(GiB + 33 * MiB)]).toEqual([true, true, false]);
});
