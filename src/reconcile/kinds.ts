import type { diskImages, diskPools, diskSnapshots } from '../api/objects.ts';

/** Objects as they are read. */
export type DiskImage = ReturnType<typeof diskImages.parse>;
export type DiskSnapshot = ReturnType<typeof diskSnapshots.parse>;
export type DiskPool = ReturnType<typeof diskPools.parse>;
