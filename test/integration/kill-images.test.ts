import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { listSteps } from '../../src/lib/checkpoint.ts';
import { checkPool } from '../../src/store/check.ts';
import { imageSteps } from '../../src/store/steps.ts';
import { openDetachedPool, removeDirectory, temporaryDirectory } from '../detached-pool.ts';
import { imageStory, makeDonor } from '../image-story.ts';

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => removeDirectory(directory));

const story = path.join(import.meta.dirname, '../fixtures/image-story.ts');

/** @returns the signal that ended it, or null where it came to its end */
function runUntil(step: string): Promise<string | null> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [story, directory, step], (error, _, stderr) => {
      if (error && !error.signal) reject(new Error(stderr, { cause: error }));
      else resolve(error?.signal ?? null);
    });
  });
}

it.each(listSteps(imageSteps))(
  'killed at %s, another process goes on, loses nothing and leaves nothing',
  async (step) => {
    const pool = path.join(directory, 'pool');
    for (const name of ['pool', 'donor']) mkdirSync(path.join(directory, name));
    await makeDonor(path.join(directory, 'donor'));
    expect(await runUntil(step), `${step} was never reached`).toBe('SIGKILL');
    const opened = await openDetachedPool(pool);
    expect(await checkPool(pool, () => {})).toMatchObject({ problems: [], leftovers: [] });
    await imageStory(opened, directory);
    await opened.compactor.settled();
    await opened.release();
    expect(await checkPool(pool, () => {})).toMatchObject({ layers: 0, images: 0, problems: [], leftovers: [] });
  },
);
