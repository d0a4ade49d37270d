import { stat, statfs } from 'node:fs/promises';
import { blockDeviceSizeBytes, deviceNumber } from '../../host/block-device.ts';
import { growMounted, type FilesystemType } from '../../host/filesystem.ts';
import { refreshLoopCapacity } from '../../host/loop.ts';
import { mountsAt } from '../../host/mountinfo.ts';
import { errnoOf, LaminaError } from '../../lib/errors.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import { unhealthy } from './disk-health.ts';
import { type DeviceUse, findUse, numberOf } from './device-use.ts';
import { canonicalPath } from './staging-paths.ts';
import type { DiskStats, StagingContext } from './staging-port.ts';

interface PathRequest {
  diskId: string;
  path: string;
}

/** How full a disk's file system is, or how big its device. @throws LaminaError `disk-not-found`, `path-not-found`, `engine-dead`, `engine-unresponsive` */
export async function stats({ disks }: StagingContext, request: PathRequest): Promise<DiskStats> {
  const device = await requireHealthy({ disks }, request);
  const use = await findUse(device);
  const place = await canonicalPath(request.path);
  const sizeBytes = await blockDeviceSizeBytes(device.path);
  if (place !== null && use.nodes.some(({ mount }) => mount.mountPoint === place)) return { usage: null, sizeBytes };
  if (place === null || mountsAt(use.mounts, place).length === 0) throw notThere(request);
  const found = await statfs(place);
  return {
    sizeBytes,
    usage: {
      totalBytes: found.blocks * found.bsize,
      availableBytes: found.bavail * found.bsize,
      usedBytes: (found.blocks - found.bfree) * found.bsize,
      totalInodes: found.files,
      freeInodes: found.ffree,
      usedInodes: found.files - found.ffree,
    },
  };
}

/**
 * Makes device and file system as big as the disk's record says, in use or not.
 *
 * @throws LaminaError `disk-not-found`, `path-not-found`, `engine-dead`, `engine-unresponsive`
 */
export async function expand(context: StagingContext, request: PathRequest): Promise<{ sizeBytes: number }> {
  const { disks, checkpoint } = context;
  const device = await requireHealthy(context, request);
  const use = await findUse(device);
  if (!(await isAt(use, device, request.path))) throw notThere(request);
  await disks.growDevice(request.diskId);
  for (const readOnly of use.readOnlyDevices) await refreshLoopCapacity(readOnly);
  checkpoint('expand/device-grown');
  const writable = use.mounts.find(({ options, superOptions }) => ![...options, ...superOptions].includes('ro'));
  if (writable) await growMounted(writable.fsType as FilesystemType, device.path, writable.mountPoint);
  checkpoint('expand/filesystem-grown');
  return { sizeBytes: await blockDeviceSizeBytes(device.path) };
}

async function requireHealthy({ disks }: Pick<StagingContext, 'disks'>, request: PathRequest): Promise<BlockDevice> {
  disks.disk(request.diskId);
  const attachment = await disks.attachment(request.diskId);
  if (!attachment?.device) throw notThere(request);
  if (attachment.state !== 'healthy') throw unhealthy(request.diskId, attachment.state);
  return attachment.device;
}

/** For a disk used as a block device, callers may name any directory of theirs: they have no better path. */
async function isAt(use: DeviceUse, device: BlockDevice, given: string): Promise<boolean> {
  const place = await canonicalPath(given);
  if (place === null) return false;
  if ([...use.mounts, ...use.nodes.map(({ mount }) => mount)].some(({ mountPoint }) => mountPoint === place))
    return true;
  if (use.mounts.length > 0) return false;
  try {
    const found = await stat(place, { bigint: true });
    return found.isDirectory() || (found.isBlockDevice() && deviceNumber(found.rdev) === numberOf(device));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

function notThere({ diskId, path }: PathRequest): LaminaError {
  return new LaminaError('path-not-found', `disk ${diskId} is not at ${path}`);
}
