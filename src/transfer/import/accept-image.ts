import { chmod, open } from 'node:fs/promises';
import { formatBytes, roundUp } from '../../lib/bytes.ts';
import { LaminaError } from '../../lib/errors.ts';
import { assertSameInfo, assertUndamaged, readInfo } from '../../qemu/untrusted-image.ts';
import { maximumSizeBytes } from '../../store/create-disk.ts';
import { acceptVdi, acceptVmdk } from './accept-foreign.ts';
import { acceptQcow2 } from './accept-qcow2.ts';
import type { ImportRequest } from './import-request.ts';
import { probeBytes, probeFormat, type SourceFormat } from './probe-format.ts';

/** ADR 3. */
const sectorBytes = 512;

/** What an image is that was found harmless. */
export interface Accepted {
  format: SourceFormat;
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
    const name = source.url;
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(probeBytes), 0, probeBytes, 0);
    const format = probeFormat(buffer.subarray(0, bytesRead), name);
    if (format === 'raw') {
      const { size } = await handle.stat();
      const sizeBytes = roundUp(size, sectorBytes);
      assertSize(sizeBytes, name);
      return { format, sizeBytes, asItIs: size === sizeBytes };
    }
    const unsized = { descriptor: handle.fd, format, name, signal };
    if (format !== 'qcow2') {
      if (format === 'vmdk') await acceptVmdk(handle, name);
      if (format === 'vdi') await acceptVdi(handle, name);
      // Of a parent QEMU itself wants to know nothing (vhdx), or it was found that there is none.
      const sizeBytes = await readInfo(unsized);
      assertSize(sizeBytes, name);
      return { format, sizeBytes, asItIs: false };
    }
    const header = await acceptQcow2(handle, name);
    const sizeBytes = header.virtualSizeBytes;
    assertSize(sizeBytes, name);
    const image = { ...unsized, sizeBytes };
    await assertSameInfo(image);
    const { leaks } = await assertUndamaged(image);
    return { format, sizeBytes, asItIs: header.asItIs && !leaks };
  } finally {
    await handle.close();
  }
}

function assertSize(sizeBytes: number, name: string): void {
  if (sizeBytes === 0) throw new LaminaError('image-refused', `${name} is a disk of 0 bytes`);
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
    `${source.url} is a disk of ${foundBytes} bytes and does not fit into ${sizeBytes}: ask for at least as much, or for no size`,
  );
}
