import { bigNumber, type ForeignFile, makeWhole, refusal, virtualSize } from './foreign-file.ts';

const sectorBytes = 512;
/** QEMU looks for a parent in just these bytes, whatever the header says of the descriptor. */
const searched = { offset: 0x200, bytes: 20 * sectorBytes };
const maxDescriptorBytes = 64 * 1024;
/** In place of the grain directory's offset: another header is at the end of the file, and that one counts. */
const atEnd = 0xffff_ffff_ffff_ffffn;
const footer = { fromEnd: 1024, bytes: sectorBytes };
/** The file has its own descriptor and all of the data; what else there is has its data in other files. */
const wholeTypes: readonly (string | undefined)[] = ['monolithicsparse', 'streamoptimized'];

/**
 * Reads the header and the descriptor of a VMDK image (VMware's Virtual Disk Format 5.0), and refuses what could have
 * QEMU open another file.
 *
 * @returns the virtual size in bytes
 * @throws LaminaError `image-refused`
 */
export async function acceptVmdk(file: ForeignFile): Promise<number> {
  const { name } = file;
  const header = await file.read(0, sectorBytes, 'header');
  const capacity = bigNumber(header, 12);
  // QEMU takes such a file for a mere descriptor, and opens what that names.
  if (capacity === 0) throw refusal(name, `has no data of its own: ${makeWhole}`);
  if (header.readBigUInt64LE(56) === atEnd) await assertSameFooter(file, capacity);
  const hint = await file.read(searched.offset, Math.min(searched.bytes, file.sizeBytes - searched.offset), 'start');
  if (/parentFileNameHint/i.test(hint.toString('latin1'))) throw refusal(name, `names a parent: ${makeWhole}`);
  await assertWhole(file, header);
  return virtualSize(capacity * sectorBytes, name);
}

async function assertSameFooter(file: ForeignFile, capacity: number): Promise<void> {
  const at = Math.floor(file.sizeBytes / sectorBytes) * sectorBytes - footer.fromEnd;
  if (at < sectorBytes) throw refusal(file.name, 'is cut off: it has no footer');
  const found = await file.read(at, footer.bytes, 'footer');
  if (found.toString('latin1', 0, 4) === 'KDMV' && bigNumber(found, 12) === capacity) return;
  throw refusal(file.name, 'is cut off or damaged: its footer is not what its header says');
}

async function assertWhole(file: ForeignFile, header: Buffer): Promise<void> {
  const { name } = file;
  const [offset, bytes] = [bigNumber(header, 28) * sectorBytes, bigNumber(header, 36) * sectorBytes];
  if (offset === 0 || bytes === 0) throw refusal(name, `is one of several files of an image: ${makeWhole}`);
  if (!(bytes <= maxDescriptorBytes)) throw refusal(name, 'has an absurd descriptor');
  const descriptor = (await file.read(offset, bytes, 'descriptor')).toString('latin1').split('\0')[0] ?? '';
  const parent = valueOf(descriptor, 'parentCID');
  if (parent !== undefined && parent !== 'ffffffff') throw refusal(name, `has a parent, ${parent}: ${makeWhole}`);
  const type = valueOf(descriptor, 'createType');
  if (!wholeTypes.includes(type)) {
    throw refusal(name, `is of the type ${type ?? '(none)'}, whose data is in other files: ${makeWhole}`);
  }
  const extents = descriptor.match(/^[ \t]*(RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+.*$/gim) ?? [];
  const [extent = ''] = extents;
  if (extents.length !== 1 || !/^\s*\S+\s+\d+\s+SPARSE\s/i.test(extent)) {
    throw refusal(name, `has its data in other files, as its descriptor says: ${makeWhole}`);
  }
}

/** In lower case. */
function valueOf(descriptor: string, key: string): string | undefined {
  const [, value] = new RegExp(`^[ \\t]*${key}[ \\t]*=[ \\t]*"?([^"\\r\\n]*)`, 'im').exec(descriptor) ?? [];
  return value?.trim().toLowerCase();
}
