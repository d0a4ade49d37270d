import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { Staging } from '../src/engine/staging/staging.ts';
import type { PublishRequest, StagingAccess } from '../src/engine/staging/staging-port.ts';
import { readMounts } from '../src/host/mountinfo.ts';
import { LoopDisks } from './fakes/loop-disks.ts';
import { noPause } from './fakes/no-pause.ts';
import { silentLogger } from './fakes/silent-logger.ts';

export const ext4: StagingAccess = { kind: 'mount', fsType: 'ext4', mountFlags: [] };
export const xfs: StagingAccess = { kind: 'mount', fsType: 'xfs', mountFlags: [] };
export const btrfs: StagingAccess = { kind: 'mount', fsType: 'btrfs', mountFlags: [] };
export const block: StagingAccess = { kind: 'block' };

/** Staging over disks on plain loop devices, in a directory of its own. */
export class StagingScene {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'lamina-staging-'));
  readonly disks = new LoopDisks(this.directory);
  staging = this.restarted();

  constructor() {
    mkdirSync(this.at('targets'));
  }

  /** Another process's Staging: it knows what the kernel knows. */
  restarted(): Staging {
    this.staging = new Staging({
      disks: this.disks,
      nodeName: 'node-1',
      runDir: this.at('run'),
      checkpoint: () => {},
      logger: silentLogger,
      pauses: noPause,
    });
    return this.staging;
  }

  at(...names: string[]): string {
    return path.join(this.directory, ...names);
  }

  stagingPath(diskId: string): string {
    return this.at('staging', diskId);
  }

  stage(diskId: string, access: StagingAccess): Promise<void> {
    return this.staging.stage({ diskId, stagingPath: this.stagingPath(diskId), access });
  }

  /** @returns the target path */
  async publish(diskId: string, target: string, access: StagingAccess, options: Partial<PublishRequest> = {}) {
    const targetPath = this.at('targets', target);
    const stagingPath = this.stagingPath(diskId);
    const request = { diskId, stagingPath, targetPath, access, readOnly: false, singleTarget: false };
    await this.staging.publish({ ...request, ...options });
    return targetPath;
  }

  unpublish(diskId: string, target: string): Promise<void> {
    return this.staging.unpublish({ diskId, targetPath: this.at('targets', target) });
  }

  unstage(diskId: string): Promise<void> {
    return this.staging.unstage({ diskId, stagingPath: this.stagingPath(diskId) });
  }

  async mountsBelow(): Promise<string[]> {
    const mounts = await readMounts();
    return mounts
      .filter(({ mountPoint }) => mountPoint.startsWith(`${this.directory}/`))
      .map((mount) => mount.mountPoint);
  }

  /** Fails where a mount or a loop device of this scene is left; takes everything away in any case. */
  async close(): Promise<void> {
    const mounts = await this.mountsBelow();
    const loops = this.#ownLoops();
    for (let left = mounts; left.length > 0; left = await this.mountsBelow()) {
      execFileSync('umount', ['--lazy', '--', left.at(-1) ?? '']);
    }
    for (const loop of loops) execFileSync('losetup', ['--detach', loop]);
    rmSync(this.directory, { recursive: true, force: true });
    expect(mounts, 'mounts left behind').toEqual([]);
    expect(loops, 'loop devices left behind').toEqual([]);
  }

  /** Loop devices on files of this scene, and those on such devices, uppermost first. */
  #ownLoops(): string[] {
    const json = execFileSync('losetup', ['--list', '--json', '--output', 'NAME,BACK-FILE'], { encoding: 'utf8' });
    if (json.trim() === '') return [];
    // One that is taken away while it is listed, as by a test that runs beside, has no file any more.
    const { loopdevices } = JSON.parse(json) as { loopdevices: { name: string; 'back-file': string | null }[] };
    const on = (belongs: (file: string) => boolean) =>
      loopdevices.filter((loop) => belongs(loop['back-file'] ?? '')).map(({ name }) => name);
    const own = on((file) => file.startsWith(`${this.directory}/`));
    return [...on((file) => own.includes(file)), ...own];
  }
}
