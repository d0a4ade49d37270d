import { LaminaError } from '../../lib/errors.ts';
import type { UntrustedFormat } from '../../qemu/untrusted-image.ts';

export type SourceFormat = UntrustedFormat;

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

const accepted: readonly { at: number; bytes: string | Buffer; format: SourceFormat }[] = [
  { at: 0, bytes: Buffer.from('514649fb', 'hex'), format: 'qcow2' },
  { at: 0, bytes: 'KDMV', format: 'vmdk' },
  { at: 0x40, bytes: Buffer.from('7f10dabe', 'hex'), format: 'vdi' },
  { at: 0, bytes: 'vhdxfile', format: 'vhdx' },
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
  { at: 0, bytes: Buffer.from('1f8b', 'hex'), what: 'compressed with gzip twice', hint: unpack },
  { at: 0, bytes: Buffer.from('fd377a585a00', 'hex'), what: 'compressed with xz twice', hint: unpack },
  { at: 0, bytes: Buffer.from('28b52ffd', 'hex'), what: 'compressed with zstd twice', hint: unpack },
  { at: 0, bytes: 'BZh', what: 'compressed with bzip2', hint: unpack },
  { at: 0, bytes: Buffer.from('504b0304', 'hex'), what: 'a ZIP archive', hint: unpack },
  { at: 0, bytes: Buffer.from('377abcaf271c', 'hex'), what: 'a 7z archive', hint: unpack },
  { at: 257, bytes: 'ustar', what: 'a tar archive', hint: unpack },
];

/**
 * Of what format an image is, by its first bytes alone. Whatever has no mark of its own is raw.
 * @throws LaminaError `image-refused` for what is no disk image, or of a kind that is not imported
 */
export function probeFormat(head: Buffer, name: string): SourceFormat {
  if (head.length === 0) throw new LaminaError('image-refused', `${name} is empty`);
  const known = accepted.find(({ at, bytes }) => begins(head, at, Buffer.from(bytes)));
  if (known) return known.format;
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
