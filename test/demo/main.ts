import { GiB } from '../../src/lib/bytes.ts';
import { messageOf } from '../../src/lib/errors.ts';
import { makeWorkspace, removeWorkspace } from '../workspace.ts';
import { operatingSystem, qemuVersion, Stage } from './stage.ts';
import { tellStory } from './story.ts';
import { formatDuration, Teller } from './teller.ts';

/** Room for the story's files, twice. */
const neededBytes = 3 * GiB;

/** `make demo`: tells the story on a temporary pool. Exits with 1 where a byte differs or anything is left behind. */
async function main(): Promise<number> {
  if (process.getuid?.() !== 0) {
    process.stderr.write('demo: mounting needs root: run it with sudo\n');
    return 2;
  }
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupted.abort(new Error('interrupted')));
  }
  const teller = new Teller((text) => process.stdout.write(text), interrupted.signal);
  const start = performance.now();
  const workspace = await makeWorkspace({ base: '/var/tmp', prefix: 'lamina-demo-', neededBytes });
  const stage = new Stage(workspace);
  let failure: unknown = null;
  try {
    const where = workspace.onImage ? `${workspace.filesystem} on a loop device` : workspace.filesystem;
    teller.say('Lamina: volumes with snapshots, clones and restores out of one plain directory.');
    teller.say(`${await operatingSystem()}, QEMU ${await qemuVersion()}; the pool is ${workspace.pool} (${where}).\n`);
    await tellStory(stage, teller);
  } catch (error) {
    failure = interrupted.signal.aborted ? interrupted.signal.reason : error;
    teller.say(`\nThe demo failed: ${messageOf(failure)}`);
    if (!interrupted.signal.aborted && stage.driverLog !== '')
      teller.say(`\nThe driver's log:\n${stage.driverLog.trim()}`);
  }
  const { volumes, filesCompared } = stage;
  const isClean = await cleanUp(stage, teller);
  if (failure !== null || !isClean) return 1;
  teller.say(
    `\n${volumes.length} volumes, ${filesCompared} files compared: no byte differs. ${formatDuration(performance.now() - start)} in all.`,
  );
  return 0;
}

/** @returns whether nothing is left */
async function cleanUp(stage: Stage, teller: Teller): Promise<boolean> {
  try {
    await stage.kill9();
    await removeWorkspace(stage.workspace.directory);
    teller.say('\nCleaned up: no process, mount, loop device or file of the demo is left.');
    return true;
  } catch (error) {
    teller.say(`\nCleaning up failed: ${messageOf(error)}`);
    return false;
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`demo: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
