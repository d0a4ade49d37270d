import { isMountPoint, unmountTop } from '../../host/mount.ts';
import { type Mount, mountsAt, mountsOf, readMounts } from '../../host/mountinfo.ts';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import { requireUnmountable } from './disk-health.ts';
import { findUse, mayBeOurs, numberOf, otherPlaces, removeUnusedReadOnlyDevices } from './device-use.ts';
import { removeReadOnlySource } from './read-only-source.ts';
import { canonicalPath, removeMountPoint } from './staging-paths.ts';
import type { StagingContext } from './staging-port.ts';

/**
 * Takes a disk away from a target path, and the path too. Idempotent, also for disks that are gone.
 *
 * @throws LaminaError `publish-refused` where something else is at the path; `disk-in-use` while it is used there
 */
export async function unpublish(
  context: StagingContext,
  { diskId, targetPath: given }: { diskId: string; targetPath: string },
): Promise<void> {
  await removeReadOnlySource(context, diskId);
  const attachment = await context.disks.attachment(diskId).catch(ifNoDisk);
  const device = attachment?.device ?? null;
  const targetPath = await canonicalPath(given);
  if (targetPath !== null) {
    await unmountOwn(diskId, device, targetPath);
    context.checkpoint('unpublish/unmounted');
    await removeMountPoint(targetPath);
    context.checkpoint('unpublish/target-removed');
  }
  if (device && (await removeUnusedReadOnlyDevices(device)) > 0) {
    context.checkpoint('unpublish-read-only-block/device-removed');
  }
}

/**
 * Unmounts and detaches a disk. Idempotent, also for disks that are gone. The staging path stays, it is the caller's.
 *
 * @throws LaminaError `disk-in-use` while it is published; `publish-refused` where something else is at the path
 */
export async function unstage(
  context: StagingContext,
  { diskId, stagingPath: given }: { diskId: string; stagingPath: string },
): Promise<void> {
  const { disks, checkpoint } = context;
  await removeReadOnlySource(context, diskId);
  const attachment = await disks.attachment(diskId).catch(ifNoDisk);
  const device = attachment?.device ?? null;
  const stagingPath = await canonicalPath(given);
  if (attachment && stagingPath !== null && (await isMountPoint(stagingPath))) {
    requireUnmountable(diskId, attachment);
  }
  if (stagingPath !== null) await unmountOwn(diskId, device, stagingPath);
  checkpoint('unstage/unmounted');
  if (device) {
    await removeUnusedReadOnlyDevices(device);
    const places = otherPlaces(await findUse(device), []);
    if (places.length > 0) throw stillPublished(diskId, places);
  }
  await disks.detach(diskId).catch(ifNoDisk);
  checkpoint('unstage/detached');
}

function ifNoDisk(error: unknown): null {
  if (isLaminaError(error, 'disk-not-found')) return null;
  throw error;
}

/** Unmounts what is at `target`, as often as it is mounted there, unless it is something else's. */
async function unmountOwn(diskId: string, device: BlockDevice | null, target: string): Promise<void> {
  for (const mount of mountsAt(await readMounts(), target).toReversed()) {
    if (!(await isOf(device, mount))) throw notOurs(diskId, mount);
    await unmountTop(target);
  }
}

async function isOf(device: BlockDevice | null, mount: Mount): Promise<boolean> {
  // It is gone, or was never attached: what is still mounted of it cannot be told from what other disks have.
  if (!device) return mayBeOurs(mount);
  if ((await mountsOf([mount], numberOf(device))).length > 0) return true;
  return (await findUse(device)).nodes.some((node) => node.mount.id === mount.id);
}

function notOurs(diskId: string, { mountPoint, source }: Mount): LaminaError {
  return new LaminaError(
    'publish-refused',
    `${mountPoint} is a mount of ${source}, not of disk ${diskId}, and was left alone: ask with the path where the disk is`,
  );
}

function stillPublished(diskId: string, places: readonly string[]): LaminaError {
  return new LaminaError(
    'disk-in-use',
    `disk ${diskId} cannot be detached: it is mounted at ${places.join(', ')}; unpublish it there first`,
  );
}
