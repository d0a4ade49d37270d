import { LaminaError } from '../../lib/errors.ts';
import type { UntrustedFormat } from '../../qemu/untrusted-image.ts';

export type Compression = 'gzip' | 'xz' | 'zstd';

/** So many bytes from the start tell every format that is known. */
export const probeBytes = 1024;

interface Signature {
  at: number;
  bytes: string | Buffer;
  what: string;
  hint: string;
}

const convert = 'make it qcow2 with qemu-img convert, and import that';
const unpack = 'unpack it, and import what is in it';

/** What is unpacked, once. */
const compressions: readonly { name: Compression; bytes: Buffer }[] = [
  { name: 'gzip', bytes: Buffer.from('1f8b', 'hex') },
  { name: 'xz', bytes: Buffer.from('fd377a585a00', 'hex') },
  { name: 'zstd', bytes: Buffer.from('28b52ffd', 'hex') },
  // A frame to be skipped (RFC 8878, 3.1.2), with which pzstd begins: its mark is one of sixteen.
  ...Array.from({ length: 16 }, (_, n) => ({
    name: 'zstd' as const,
    bytes: Buffer.from([0x50 + n, 0x2a, 0x4d, 0x18]),
  })),
];

const formats: readonly { at: number; bytes: Buffer; format: UntrustedFormat }[] = [
  { at: 0, bytes: Buffer.from('514649fb', 'hex'), format: 'qcow2' },
  { at: 0, bytes: Buffer.from('KDMV'), format: 'vmdk' },
  { at: 0, bytes: Buffer.from('vhdxfile'), format: 'vhdx' },
  { at: 0x40, bytes: Buffer.from('7f10dabe', 'hex'), format: 'vdi' },
];

/** What begins so is no disk: taken for raw, it would be a silent wrong answer. */
const refused: readonly Signature[] = [
  {
    at: 0,
    bytes: '# Disk DescriptorFile',
    what: 'the descriptor of a VMDK image, whose data is in other files',
    hint: convert,
  },
  { at: 0, bytes: 'COWD', what: 'an old VMDK image', hint: convert },
  { at: 0, bytes: 'conectix', what: 'a VHD image', hint: convert },
  { at: 0, bytes: Buffer.from('QED\0', 'latin1'), what: 'a QED image', hint: convert },
  { at: 0, bytes: 'WithoutFreeSpace', what: 'a Parallels image', hint: convert },
  { at: 0, bytes: 'WithouFreSpacExt', what: 'a Parallels image', hint: convert },
  { at: 0, bytes: 'BZh', what: 'compressed with bzip2', hint: unpack },
  { at: 0, bytes: Buffer.from('04224d18', 'hex'), what: 'compressed with lz4', hint: unpack },
  { at: 0, bytes: 'LZIP', what: 'compressed with lzip', hint: unpack },
  { at: 0, bytes: 'Rar!\x1a\x07', what: 'a RAR archive', hint: unpack },
  { at: 0, bytes: '070701', what: 'a cpio archive', hint: unpack },
  { at: 0, bytes: Buffer.from('504b0304', 'hex'), what: 'a ZIP archive', hint: unpack },
  { at: 0, bytes: Buffer.from('377abcaf271c', 'hex'), what: 'a 7z archive', hint: unpack },
  { at: 257, bytes: 'ustar', what: 'a tar archive', hint: unpack },
  {
    at: 0,
    bytes: 'version https://git-lfs',
    what: 'what Git LFS keeps in place of a file',
    hint: 'name the URL of the file itself',
  },
];

/** How a file is compressed, by its first bytes alone; null: not, as far as we know. */
export function compressionOf(head: Buffer): Compression | null {
  return compressions.find(({ bytes }) => begins(head, 0, bytes))?.name ?? null;
}

/**
 * Of what format an image is, by its first bytes alone. Whatever has no mark of its own is raw.
 * @throws LaminaError `image-refused` for what is no disk image, or of a kind that is not imported
 */
export function probeFormat(head: Buffer, name: string): UntrustedFormat {
  if (head.length === 0) throw new LaminaError('image-refused', `${name} is empty`);
  const known = formats.find(({ at, bytes }) => begins(head, at, bytes));
  if (known) return known.format;
  const compression = compressionOf(head);
  if (compression) {
    throw new LaminaError('image-refused', `${name} is compressed with ${compression} inside of another: ${unpack}`);
  }
  const match = refused.find(({ at, bytes }) => begins(head, at, Buffer.from(bytes)));
  if (match) throw new LaminaError('image-refused', `${name} is ${match.what}, which is not imported: ${match.hint}`);
  if (/^\s*<(!doctype|html|\?xml)/i.test(head.toString('latin1'))) {
    throw new LaminaError(
      'image-refused',
      `${name} is a page for people, no disk image: name the URL of the file itself`,
    );
  }
  return 'raw';
}

function begins(head: Buffer, at: number, bytes: Buffer): boolean {
  return head.subarray(at, at + bytes.length).equals(bytes);
}
