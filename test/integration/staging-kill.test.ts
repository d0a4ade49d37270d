import { execFile, execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DeviceFreezer } from '../../src/engine/staging/device-freezer.ts';
import { thawMarked } from '../../src/engine/staging/freeze-marks.ts';
import { freezeSteps, stagingSteps } from '../../src/engine/staging/staging-steps.ts';
import { MiB } from '../../src/lib/bytes.ts';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { silentLogger } from '../fakes/silent-logger.ts';
import { StagingScene } from '../staging-scene.ts';
import { stagingStory } from '../staging-story.ts';

let scene: StagingScene;
beforeEach(() => {
  scene = new StagingScene();
});
afterEach(() => scene.close());

const story = path.join(import.meta.dirname, '../fixtures/staging-story.ts');

/** @returns the signal that ended it, or null where it came to its end */
function runUntil(step: string): Promise<string | null> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [story, scene.directory, step], (error, _, stderr) => {
      if (error && !error.signal) reject(new Error(stderr, { cause: error }));
      else resolve(error?.signal ?? null);
    });
  });
}

it.each(listSteps({ ...stagingSteps, ...freezeSteps }))(
  'killed at %s, another process goes on and leaves nothing',
  async (step) => {
    scene.disks.create('mount', 320 * MiB);
    scene.disks.create('block', 320 * MiB);
    expect(await runUntil(step), `${step} was never reached`).toBe('SIGKILL');
    await thawMarked(scene.at('run'), silentLogger);
    await stagingStory({
      directory: scene.directory,
      disks: scene.disks,
      staging: scene.restarted(),
      freezer: new DeviceFreezer({ runDir: scene.at('run'), checkpoint: () => {}, onFrozen: () => {} }),
      grownBytes: 480 * MiB,
    });
    expect(readdirSync(scene.at('targets'))).toEqual([]);
    expect(readdirSync(scene.at('run', 'frozen'))).toEqual([]);
    expect(readdirSync(scene.at('run', 'read-only'))).toEqual([]);
    execFileSync('xfs_repair', ['-n', scene.disks.file('mount')], { stdio: 'ignore' });
  },
);
