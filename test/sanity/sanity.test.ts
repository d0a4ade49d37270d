import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { GiB } from '../../src/lib/bytes.ts';
import { run } from '../../src/lib/exec.ts';
import { saveSpecs, switchedOff } from '../ginkgo-report.ts';
import { type Standalone, startStandalone } from '../standalone.ts';
import { leftovers, makeWorkspace, removeWorkspace, type Workspace } from '../workspace.ts';
import { findCsiSanity, runCsiSanity } from './csi-sanity.ts';
import { type ImageCommand, imageCommand } from './image.ts';

/** Where set, the program of this container image is tested instead of bin/lamina. */
const image = process.env['LAMINA_IMAGE'];
const lamina = path.resolve(import.meta.dirname, '../../bin/lamina');

/** What csi-sanity says where it skips a spec, and the capability that this driver does not have. Another reason is a mistake. */
const missingCapabilities: Record<string, string> = {
  'ControllerPublishVolume not supported': 'PUBLISH_UNPUBLISH_VOLUME',
  'ControllerUnpublishVolume not supported': 'PUBLISH_UNPUBLISH_VOLUME',
  'Controller Publish, UnpublishVolume not supported': 'PUBLISH_UNPUBLISH_VOLUME',
  'GroupControllerService not supported': 'GROUP_CONTROLLER_SERVICE',
  'SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported': 'SNAPSHOT_ACCESSIBILITY_CONSTRAINTS',
  'ControllerListVolumeHealth not supported': 'LIST_VOLUME_HEALTH',
  'ControllerGetVolumeHealth not supported': 'GET_VOLUME_HEALTH (controller)',
  'NodeGetStorageHealth not supported': 'GET_STORAGE_HEALTH',
  [switchedOff]: 'a fix in csi-sanity, which has switched it off',
};

const secret = 'a-secret-that-no-log-may-hold';

let program: string;
let workspace: Workspace | undefined;
let standalone: Standalone | undefined;
let container: ImageCommand | undefined;

beforeAll(async () => {
  program = await findCsiSanity();
}, 11 * 60_000);

afterEach(async () => {
  await standalone?.kill9();
  await container?.remove();
  if (workspace) await removeWorkspace(workspace.directory);
  standalone = container = workspace = undefined;
});

describe.each([
  { name: 'mount', access: 'mount', parameters: {} },
  { name: 'block', access: 'block', parameters: {} },
  { name: 'mount-raw', access: 'mount', parameters: { format: 'raw', liveSnapshots: 'true' } },
] as const)('csi-sanity, $name', ({ name, access, parameters }) => {
  it('finds nothing wrong, and nothing is left behind', async () => {
    workspace = await makeWorkspace({ base: '/tmp', prefix: 'lamina-sanity-', neededBytes: 4 * GiB });
    container = image === undefined ? undefined : await imageCommand(image, workspace.directory);
    const before = await leftovers(workspace.directory);
    standalone = await startStandalone({ ...workspace, args: ['--log-level', 'debug'], ...container });
    const result = await runCsiSanity(program, {
      socket: workspace.socket,
      directory: workspace.mounts,
      access,
      parameters,
      mutableParameters: { liveSnapshots: 'true' },
      secret,
      volumeSizeBytes: GiB,
    });
    const skipped = result.skipped.map(({ name: spec, reason }) => ({
      name: spec,
      reason: missingCapabilities[reason] ?? reason,
    }));
    await saveSpecs(`csi-sanity-${name}`, { ...result, skipped });
    process.stdout.write(`${describeRun(name, result.passed.length, skipped)}\n`);

    expect(result.failed).toEqual([]);
    expect(result.passed.length).toBeGreaterThanOrEqual(80);
    expect(result.skipped.map(({ reason }) => reason).filter((reason) => !(reason in missingCapabilities))).toEqual([]);
    expect(standalone.stderr()).not.toContain(secret);
    await expectEmptyPool(standalone, workspace);
    await standalone.stop();
    const { directory } = workspace;
    await expect.poll(() => leftovers(directory), { timeout: 30_000 }).toEqual(before);
    await run(lamina, ['check', workspace.pool], { timeoutMs: 60_000 });
  });
});

/** One line; the names of the skipped specs are in the summary of all tiers. */
function describeRun(name: string, passed: number, skipped: readonly { reason: string }[]): string {
  const capabilities = Object.entries(Object.groupBy(skipped, ({ reason }) => reason));
  const counts = capabilities.map(([capability, specs = []]) => `${capability} (${specs.length})`);
  return `csi-sanity, ${name}: ${passed} passed, ${skipped.length} skipped for want of ${counts.join(', ')}`;
}

/** Every spec deletes what it made; of that nothing may stay, in the lists or on disk. */
async function expectEmptyPool({ client }: Standalone, { pool, mounts }: Workspace): Promise<void> {
  expect((await client.controller.listVolumes()).entries).toEqual([]);
  expect((await client.controller.listSnapshots()).entries).toEqual([]);
  for (const directory of ['disks', 'snapshots', 'layers', 'tmp']) {
    // What nothing names any more is collected in the background.
    await expect.poll(() => readdir(path.join(pool, directory)), { timeout: 30_000 }).toEqual([]);
  }
  expect((await readdir(mounts)).filter((file) => !/\.(yaml|json)$/.test(file))).toEqual([]);
}
