import { bindMount } from '../../host/mount.ts';
import { mountsAt, type Mount } from '../../host/mountinfo.ts';
import { createReadOnlyLoop } from '../../host/read-only-loop.ts';
import { LaminaError } from '../../lib/errors.ts';
import type { BlockDevice } from '../attach/attachment.ts';
import { type DeviceUse, findUse, otherPlaces } from './device-use.ts';
import { unhealthy } from './disk-health.ts';
import { makeReadOnlySource, removeReadOnlySource } from './read-only-source.ts';
import { canonicalPath, canonicalPathMakingParents, ensureEmptyDirectory, ensureEmptyFile } from './staging-paths.ts';
import type { PublishRequest, StagingContext } from './staging-port.ts';

/**
 * Makes a staged disk visible at a target path: its file system as a directory, or its device as a file. Idempotent.
 *
 * @throws LaminaError `disk-not-found`, `not-staged`, `engine-dead`, `engine-unresponsive`; `target-in-use` where the target is used otherwise;
 *   `publish-refused` for a second target of a disk that may have one
 */
export async function publish(context: StagingContext, request: PublishRequest): Promise<void> {
  const { diskId, readOnly } = request;
  await removeReadOnlySource(context, diskId);
  const device = await requireAttached(context, diskId);
  const use = await findUse(device);
  const stagingPath = (await canonicalPath(request.stagingPath)) ?? request.stagingPath;
  const staged = request.access.kind === 'mount' ? requireStaged(use, diskId, stagingPath) : null;
  const targetPath = await canonicalPathMakingParents(request.targetPath);
  const present = mountsAt(use.all, targetPath).at(-1);
  if (present) {
    const found = staged ? mountState(use, present) : nodeState(use, present);
    const wantsReadOnly = readOnly || (staged?.options.includes('ro') ?? false);
    if (found?.readOnly !== wantsReadOnly) throw occupied(request, present);
    return;
  }
  const others = otherPlaces(use, [stagingPath, targetPath]);
  if (request.singleTarget && others.length > 0) throw secondTarget(request, others);
  if (staged) await publishMount(context, { diskId, stagingPath, targetPath, readOnly });
  else await publishDevice(context, { device, use, targetPath, readOnly });
}

/** The device of a disk that is attached and works. */
async function requireAttached({ disks }: StagingContext, diskId: string): Promise<BlockDevice> {
  disks.disk(diskId);
  const attachment = await disks.attachment(diskId);
  if (!attachment?.device) throw notStaged(diskId, 'it is not attached');
  if (attachment.state !== 'healthy') throw unhealthy(diskId, attachment.state);
  return attachment.device;
}

function requireStaged(use: DeviceUse, diskId: string, stagingPath: string): Mount {
  const staged = mountsAt(use.mounts, stagingPath).at(-1);
  if (staged) return staged;
  throw notStaged(diskId, `it is not mounted at ${stagingPath}`);
}

function mountState(use: DeviceUse, mount: Mount): { readOnly: boolean } | null {
  const isOurs = mount.root === '/' && use.mounts.some(({ id }) => id === mount.id);
  return isOurs ? { readOnly: mount.options.includes('ro') } : null;
}

function nodeState(use: DeviceUse, mount: Mount): { readOnly: boolean } | null {
  return use.nodes.find((node) => node.mount.id === mount.id) ?? null;
}

async function publishMount(
  context: StagingContext,
  { diskId, stagingPath, targetPath, readOnly }: Omit<PublishRequest, 'access' | 'singleTarget'>,
): Promise<void> {
  const { checkpoint } = context;
  await ensureEmptyDirectory(targetPath);
  checkpoint('publish/target-made');
  if (!readOnly) {
    await bindMount(stagingPath, targetPath);
    checkpoint('publish/bound');
    return;
  }
  const source = await makeReadOnlySource(context, diskId, stagingPath);
  checkpoint('publish-read-only/source-made');
  await bindMount(source, targetPath);
  checkpoint('publish-read-only/bound');
  await removeReadOnlySource(context, diskId);
  checkpoint('publish-read-only/source-removed');
}

/** A read-only device is one of its own: a read-only mount of a device node keeps nobody from writing to the device. */
async function publishDevice(
  { checkpoint }: StagingContext,
  { device, use, targetPath, readOnly }: { device: BlockDevice; use: DeviceUse; targetPath: string; readOnly: boolean },
): Promise<void> {
  await ensureEmptyFile(targetPath);
  checkpoint('publish/target-made');
  if (!readOnly) {
    await bindMount(device.path, targetPath);
    checkpoint('publish/bound');
    return;
  }
  const source = use.readOnlyDevices[0] ?? (await createReadOnlyLoop(device.path));
  checkpoint('publish-read-only-block/device-made');
  await bindMount(source, targetPath);
  checkpoint('publish-read-only-block/bound');
}

function notStaged(diskId: string, why: string): LaminaError {
  return new LaminaError('not-staged', `disk ${diskId} cannot be published: ${why}; stage it first`);
}

function occupied({ diskId, targetPath, readOnly }: PublishRequest, present: Mount): LaminaError {
  const wanted = readOnly ? 'read-only' : 'writable';
  return new LaminaError(
    'target-in-use',
    `disk ${diskId} was to be published ${wanted} at ${targetPath}, where ${present.source} is mounted (${present.options.join(',')}): unpublish that first`,
  );
}

function secondTarget({ diskId, targetPath }: PublishRequest, others: readonly string[]): LaminaError {
  return new LaminaError(
    'publish-refused',
    `disk ${diskId} was to be published at ${targetPath} for a single user, and is at ${others.join(', ')}: unpublish it there first`,
  );
}
