import { findFault, fuseControl, loopControl } from '../../host/control-device.ts';
import { hasKernelNbd } from '../../host/nbd.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { DataPath } from './data-path.ts';

/**
 * Finds what a storage daemon's disk can be shown to the kernel by. Raw disks take loop devices; qcow2 disks take FUSE
 * and a loop device on it, or a network block device.
 *
 * @throws LaminaError `device-missing` where one of the two has nothing
 */
export async function findBackends(logger: Logger): Promise<DataPath['backend'][]> {
  const loop = await findFault(loopControl);
  const fuse = await findFault(fuseControl);
  const nbd = await hasKernelNbd();
  if (loop !== null || (fuse !== null && !nbd)) {
    const noNbd = 'network block devices, which would do instead, are not in the kernel either (modprobe nbd)';
    const faults = [loop, ...(fuse === null || nbd ? [] : [fuse, noNbd])].filter((fault) => fault !== null);
    throw new LaminaError('device-missing', `disks cannot be attached on this node: ${faults.join('; ')}`);
  }
  if (fuse !== null) logger.warn({ fault: fuse }, 'no FUSE here; network block devices are used instead');
  if (!nbd) logger.info({}, 'the kernel has no network block devices; FUSE is used');
  return [...(fuse === null ? (['fuse'] as const) : []), ...(nbd ? (['nbd'] as const) : [])];
}
