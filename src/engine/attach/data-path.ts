import * as z from 'zod/mini';

/** How disks are attached on this node, as the self-test found it right. */
export const dataPathSchema = z.strictObject({
  /** What shows a daemon's disk to the kernel. */
  backend: z.enum(['nbd', 'fuse']),
  /** Direct I/O of the loop device on a FUSE export: faster, and wrong with some versions of QEMU. */
  exportDirectIo: z.boolean(),
  /** Direct I/O of a loop device on a raw file. */
  rawDirectIo: z.boolean(),
  /** O_DIRECT of the daemon on image files. */
  imageDirectIo: z.boolean(),
});
export type DataPath = z.infer<typeof dataPathSchema>;

/** The way that was chosen for a pool, and whether the self-test found it right or had no room. */
export interface ChosenDataPath extends DataPath {
  proven: boolean;
}
