import { LaminaError } from '../lib/errors.ts';

/** One image file of a chain as a node of QEMU's block graph. */
export interface ImageNode {
  nodeName: string;
  format: 'qcow2' | 'raw';
  /** Absolute: a daemon's working directory is not ours. */
  path: string;
  readOnly: boolean;
  /** The node below, or null; never what the image's own header says. */
  backing: string | null;
}

/** How image files are opened. */
export interface FileAccess {
  /** O_DIRECT, where the pool's file system has it. */
  direct: boolean;
  aio: 'threads' | 'native' | 'io_uring';
  /** Whether discards reach the file. */
  discard: boolean;
}

export type BlockdevOptions = Readonly<Record<string, unknown>>;

/** QEMU's limit for node names. */
const maxNodeNameBytes = 31;
const fileNodePrefix = 'f-';

/** Whether a node is the file below an image's node. */
export function isFileNode(nodeName: string): boolean {
  return nodeName.startsWith(fileNodePrefix);
}

/**
 * Options of blockdev-add for an image, with every driver named and the backing given: QEMU neither probes a format nor
 * follows a path in a header.
 * @throws LaminaError `unsupported` for a node name that QEMU would refuse.
 */
export function imageBlockdev(node: ImageNode, access: FileAccess): BlockdevOptions {
  const fileNode = fileNodePrefix + node.nodeName;
  if (!/^[a-z][a-z0-9.-]*$/.test(node.nodeName) || fileNode.length > maxNodeNameBytes) {
    throw new LaminaError('unsupported', `layer id '${node.nodeName}' cannot name a QEMU node: it is too long or odd`);
  }
  const discard = access.discard ? 'unmap' : 'ignore';
  const file = {
    driver: 'file',
    'node-name': fileNode,
    filename: node.path,
    'read-only': node.readOnly,
    discard,
    aio: access.aio,
    cache: { direct: access.direct, 'no-flush': false },
  };
  const image = { driver: node.format, 'node-name': node.nodeName, 'read-only': node.readOnly, discard, file };
  if (node.format === 'raw') return image;
  return { ...image, backing: node.backing };
}
