import { chmod, type FileHandle, open } from 'node:fs/promises';
import { formatBytes, roundUp } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { assertSameInfo, assertUndamaged, type UntrustedFormat } from '../../qemu/untrusted-image.ts';
import { maximumSizeBytes } from '../../store/create-disk.ts';
import { acceptQcow2 } from './accept-qcow2.ts';
import { acceptVdi } from './accept-vdi.ts';
import { acceptVhdx } from './accept-vhdx.ts';
import { acceptVmdk } from './accept-vmdk.ts';
import { type ForeignFile, foreignFile, makeWhole, refusal } from './foreign-file.ts';
import { type ImportRequest, sourceName } from './import-request.ts';
import { probeBytes, probeFormat } from './probe-format.ts';

/** ADR 3. */
const sectorBytes = 512;

/** What an image is that was found harmless. */
export interface Accepted {
  format: UntrustedFormat;
  sizeBytes: number;
  /** Whether the file can be a layer without being converted. */
  asItIs: boolean;
}

/**
 * Looks at a file from outside: first with our own parsers, and what these let pass with a confined QEMU.
 * @throws LaminaError `image-refused`
 */
export async function acceptImage(file: string, { source, signal }: ImportRequest): Promise<Accepted> {
  // The directory keeps everybody else out; a confined process opens the file by its descriptor.
  await chmod(file, 0o644);
  const handle = await open(file, 'r');
  try {
    const name = sourceName(source);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(probeBytes), 0, probeBytes, 0);
    const read = await readHeader(handle, probeFormat(buffer.subarray(0, bytesRead), name), name);
    const { format, sizeBytes } = read;
    assertSize(sizeBytes, name);
    if (format === 'raw') return read;
    const image = { descriptor: handle.fd, format, sizeBytes, name, signal };
    await assertSameInfo(image);
    const { leaks } = await assertUndamaged(image);
    return { ...read, asItIs: read.asItIs && !leaks };
  } finally {
    await handle.close();
  }
}

const foreign = { vmdk: acceptVmdk, vdi: acceptVdi, vhdx: acceptVhdx } as const;

/** What our own parser says of it. */
async function readHeader(handle: FileHandle, format: UntrustedFormat, name: string): Promise<Accepted> {
  if (format === 'qcow2') {
    const { virtualSizeBytes, asItIs } = await acceptQcow2(handle, name);
    return { format, sizeBytes: virtualSizeBytes, asItIs };
  }
  const file = await foreignFile(handle, name);
  if (format !== 'raw') return { format, sizeBytes: await foreign[format](file), asItIs: false };
  await assertNoVhd(file);
  const sizeBytes = roundUp(file.sizeBytes, sectorBytes);
  return { format, sizeBytes, asItIs: file.sizeBytes === sizeBytes };
}

/** A VHD image of fixed size is the disk itself, with a mark in a sector behind it. */
async function assertNoVhd(file: ForeignFile): Promise<void> {
  if (file.sizeBytes < sectorBytes) return;
  const end = await file.read(file.sizeBytes - sectorBytes, sectorBytes, 'end');
  if (end.toString('latin1', 0, 8) === 'conectix') throw refusal(file.name, `is a VHD image: ${makeWhole}`);
}

function assertSize(sizeBytes: number, name: string): void {
  if (sizeBytes <= maximumSizeBytes) return;
  throw new LaminaError(
    'image-refused',
    `${name} is a disk of ${formatBytes(sizeBytes)}; the most is ${formatBytes(maximumSizeBytes)}`,
  );
}

/** How big the layer is to be. @throws LaminaError `size-out-of-range` where the image does not fit into what is asked for */
export function layerSize({ sizeBytes: foundBytes }: Accepted, { sizeBytes, source }: ImportRequest): number {
  if (sizeBytes === null) return roundUp(foundBytes, sectorBytes);
  if (foundBytes <= sizeBytes) return sizeBytes;
  throw new LaminaError(
    'size-out-of-range',
    `${sourceName(source)} is a disk of ${foundBytes} bytes and does not fit into ${sizeBytes}: ask for at least as much, or for no size`,
  );
}
