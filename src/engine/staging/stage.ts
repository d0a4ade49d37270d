import {
  canGrowMounted,
  type FilesystemType,
  growMounted,
  growUnmountedExt4,
  mountDefaults,
} from '../../host/filesystem.ts';
import { mountDevice, unmountAll, unmountTop } from '../../host/mount.ts';
import { type Mount, mountsAt, mountsOf, readMounts } from '../../host/mountinfo.ts';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import { toolFailure } from '../../lib/exec.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import { requireUnmountable } from './disk-health.ts';
import { findUse, numberOf, otherPlaces } from './device-use.ts';
import { ensureFilesystem, requireFilesystemType } from './disk-filesystem.ts';
import { couldBeMountedWith, requireMountFlags } from './mount-flags.ts';
import { removeReadOnlySource } from './read-only-source.ts';
import { canonicalPathMakingParents, ensureEmptyDirectory } from './staging-paths.ts';
import type { MountAccess, StageRequest, StagingContext } from './staging-port.ts';

/**
 * Attaches a disk and, for a mount, mounts its file system at the staging path, made first on a blank disk. Idempotent.
 *
 * @throws LaminaError `disk-not-found`; `target-in-use` where it is used otherwise, or the path by something else;
 *   `filesystem-mismatch`, `filesystem-unknown`, `size-out-of-range`, `invalid-parameter`; `engine-dead` where its daemon
 *   died and it is still published
 */
export async function stage(context: StagingContext, request: StageRequest): Promise<void> {
  const { diskId, access } = request;
  context.disks.disk(diskId);
  const wanted = access.kind === 'mount' ? requireFilesystemType(access.fsType) : null;
  if (access.kind === 'mount') requireMountFlags(access.mountFlags);
  const stagingPath = await canonicalPathMakingParents(request.stagingPath);
  await removeReadOnlySource(context, diskId);
  await clearIfDead(context, diskId, stagingPath);
  const device = await context.disks.attach(diskId);
  context.checkpoint('stage/attached');
  const { mounts, nodes } = await findUse(device);
  if (access.kind === 'block') {
    if (mounts.length > 0) throw stagedOtherwise(diskId, mounts[0]?.mountPoint, 'with a file system');
    await context.disks.expectWrites(diskId);
    return;
  }
  if (nodes.length > 0) throw stagedOtherwise(diskId, nodes[0]?.mount.mountPoint, 'as a block device');
  const type = await ensureMounted(context, { diskId, device, stagingPath }, { ...access, fsType: wanted });
  context.checkpoint('stage/mounted');
  if (await isWritable(device, stagingPath)) await growIfPossible(type, device, stagingPath);
  context.checkpoint('stage/grown');
}

interface Staged {
  diskId: string;
  device: BlockDevice;
  stagingPath: string;
}

async function ensureMounted(
  context: StagingContext,
  { diskId, device, stagingPath }: Staged,
  access: MountAccess & { fsType: FilesystemType | null },
): Promise<FilesystemType> {
  const present = mountsAt(await readMounts(), stagingPath);
  const top = present.at(-1);
  if (top) return requireSameMount({ diskId, device, stagingPath }, top, access);
  const type = await ensureFilesystem(context, { diskId, device }, access.fsType);
  await ensureEmptyDirectory(stagingPath);
  if (!(await canGrowMounted(type)) && !access.mountFlags.includes('ro')) await growUnmountedExt4(device.path);
  const options = [...mountDefaults(type, { discard: !context.disks.isThick(diskId) }), ...access.mountFlags];
  await mountExactly({ diskId, device, stagingPath }, { type, options });
  return type;
}

/** Several btrfs with one id are one file system to the kernel unless it knows better: the device seen must be the one meant. */
async function mountExactly(
  { diskId, device, stagingPath }: Staged,
  filesystem: { type: FilesystemType; options: string[] },
): Promise<void> {
  await mountDevice(device.path, stagingPath, filesystem).catch((error: unknown) => {
    const isTwin = filesystem.type === 'btrfs' && toolFailure(error)?.stderr.includes('File exists');
    throw isTwin ? twins(diskId, error) : error;
  });
  const [mounted] = await mountsOf(mountsAt(await readMounts(), stagingPath), numberOf(device));
  if (mounted) return;
  await unmountTop(stagingPath);
  throw twins(diskId);
}

async function requireSameMount(
  { diskId, device, stagingPath }: Staged,
  top: Mount,
  { fsType, mountFlags }: { fsType: FilesystemType | null; mountFlags: string[] },
): Promise<FilesystemType> {
  if ((await mountsOf([top], numberOf(device))).length === 0 || top.root !== '/') {
    throw new LaminaError('target-in-use', `${stagingPath} is a mount of ${top.source}, not of disk ${diskId}`);
  }
  if ((fsType && fsType !== top.fsType) || !couldBeMountedWith(mountFlags, top.options)) {
    const found = `as ${top.fsType} with ${top.options.join(',')}`;
    throw stagedOtherwise(diskId, stagingPath, found);
  }
  return top.fsType as FilesystemType;
}

/** A device whose daemon died fails all I/O for good: it is taken away and made anew where nobody uses it. */
async function clearIfDead({ disks }: StagingContext, diskId: string, stagingPath: string): Promise<void> {
  const attachment = await disks.attachment(diskId);
  if (!attachment || attachment.state === 'healthy') return;
  if (attachment.device) {
    const use = await findUse(attachment.device);
    const places = otherPlaces(use, [stagingPath]);
    if (places.length > 0) throw stillPublished(diskId, places);
    const [ours] = await mountsOf(mountsAt(use.all, stagingPath), numberOf(attachment.device));
    if (ours) {
      requireUnmountable(diskId, attachment);
      await unmountAll(stagingPath);
    }
  }
  await disks.detach(diskId);
}

/** What cannot be grown now is still of use as it is; who asks to expand it is told. */
async function growIfPossible(type: FilesystemType, device: BlockDevice, stagingPath: string): Promise<void> {
  try {
    await growMounted(type, device.path, stagingPath);
  } catch (error) {
    if (!isLaminaError(error, 'size-out-of-range', 'disk-in-use')) throw error;
  }
}

async function isWritable(device: BlockDevice, stagingPath: string): Promise<boolean> {
  const [mount] = await mountsOf(mountsAt(await readMounts(), stagingPath), numberOf(device));
  return mount !== undefined && ![...mount.options, ...mount.superOptions].includes('ro');
}

function stillPublished(diskId: string, places: readonly string[]): LaminaError {
  return new LaminaError(
    'engine-dead',
    `the storage daemon of disk ${diskId} died, and the disk is published at ${places.join(', ')}: unpublish first, then unstage and stage again`,
  );
}

function stagedOtherwise(diskId: string, place: string | undefined, how: string): LaminaError {
  return new LaminaError(
    'target-in-use',
    `disk ${diskId} is in use at ${place} ${how}, which is not what was asked for: unpublish and unstage it first`,
  );
}

function twins(diskId: string, cause?: unknown): LaminaError {
  return new LaminaError(
    'unsupported',
    `disk ${diskId} has the same btrfs as another mounted disk, of which it is a copy, and this kernel cannot tell them apart (Linux 6.7 can): unpublish and unstage the other one first`,
    { cause },
  );
}
