import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { DeviceFreezer } from '../src/engine/staging/device-freezer.ts';
import type { Staging } from '../src/engine/staging/staging.ts';
import type { StagingAccess } from '../src/engine/staging/staging-port.ts';
import type { LoopDisks } from './fakes/loop-disks.ts';

export interface StoryScene {
  directory: string;
  disks: LoopDisks;
  staging: Staging;
  freezer: DeviceFreezer;
  grownBytes: number;
}

/** Everything that is done to two disks, `mount` and `block`, on a node; passes through every step there is. */
export async function stagingStory(scene: StoryScene): Promise<void> {
  await use(scene, 'mount', { kind: 'mount', fsType: 'xfs', mountFlags: [] });
  await use(scene, 'block', { kind: 'block' });
}

async function use(scene: StoryScene, diskId: string, access: StagingAccess): Promise<void> {
  const { directory, disks, staging, freezer, grownBytes } = scene;
  const at = (name: string) => path.join(directory, 'targets', `${diskId}-${name}`);
  const request = { diskId, access, stagingPath: path.join(directory, 'staging', diskId) };
  await staging.stage(request);
  await staging.publish({ ...request, targetPath: at('rw'), readOnly: false, singleTarget: false });
  await staging.publish({ ...request, targetPath: at('ro'), readOnly: true, singleTarget: false });
  if (access.kind === 'mount') writeFileSync(path.join(at('rw'), 'file'), 'content', { flush: true });
  const device = (await disks.attachment(diskId))?.device;
  if (!device) throw new Error(`${diskId} is staged and has no device`);
  await freezer.whileFrozen(diskId, device, async () => {});
  disks.grow(diskId, grownBytes);
  await staging.expand({ diskId, path: at('rw') });
  await staging.unpublish({ diskId, targetPath: at('ro') });
  await staging.unpublish({ diskId, targetPath: at('rw') });
  await staging.unstage(request);
}
