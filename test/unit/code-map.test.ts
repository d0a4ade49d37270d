import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { codeMap } from '../../scripts/lint/code-map.ts';

const repository = resolve(import.meta.dirname, '../..');
let checkout: string;

beforeEach(async () => {
  checkout = await mkdtemp(join(tmpdir(), 'lamina-code-map-'));
  await writeFile(
    join(checkout, 'oxlint.config.ts'),
    `import config from '${repository}/oxlint.config.ts';
     export default { ...config, options: {}, jsPlugins: ['${repository}/scripts/lint/plugin.ts'] };`,
  );
  await symlink(join(repository, 'node_modules'), join(checkout, 'node_modules'));
});
afterEach(() => rm(checkout, { recursive: true }));

/** What the linter says of a checkout that holds these files of src/. */
async function lint(files: Record<string, string>): Promise<string> {
  for (const [path, text] of Object.entries(files)) {
    const file = join(checkout, 'src', path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
  return new Promise((answer) => {
    const oxlint = join(repository, 'node_modules/.bin/oxlint');
    execFile(process.execPath, [oxlint, '--format=unix', 'src'], { cwd: checkout }, (_, stdout) => answer(stdout));
  });
}

describe('the linter refuses', () => {
  test.each([
    ['store/pool.ts', '../csi/server.ts', 'store does not import csi'],
    ['csi/controller/create-volume.ts', '../../qemu/qemu-img.ts', 'csi does not import qemu'],
    ['csi/controller/create-volume.ts', '../../engine/attach.ts', 'csi does not import engine'],
    ['engine/attach.ts', '../kube/client.ts', 'engine does not import kube'],
    ['qemu/qemu-img.ts', '../host/mount.ts', 'qemu does not import host'],
    ['lib/exec.ts', '../config/read-config.ts', 'lib does not import config'],
    ['roles/node.ts', '../main.ts', 'nothing imports main'],
    ['main.ts', './store/pool.ts', 'main does not import store'],
    ['store/pool.ts', '../../test/fakes/clock.ts', 'nothing in src/ imports from outside of it'],
    ['engine/attach.ts', '@grpc/grpc-js', 'engine does not import the package @grpc/grpc-js'],
    ['store/pool.ts', '@kubernetes/client-node', 'store does not import the package @kubernetes/client-node'],
    ['host/mount.ts', 'execa', 'host does not import the package execa'],
    ['reconcile/node/make-disk.ts', '../cluster/caches.ts', 'reconcile/node does not import reconcile/cluster'],
    ['elsewhere/new.ts', '../lib/errors.ts', 'has no line for src/elsewhere'],
  ])('%s importing %s', async (file, specifier, message) => {
    expect(await lint({ [file]: `export { something } from '${specifier}';\n` })).toContain(message);
  });

  test('a forbidden import in each of its forms', async () => {
    const said = await lint({
      'store/a.ts': "import type { A } from '../csi/server.ts';\nexport const a = (x: A): A => x;\n",
      'store/b.ts': "export * from '../csi/server.ts';\n",
      'store/c.ts': "export const load = (): Promise<unknown> => import('../csi/server.ts');\n",
      'store/d.ts': "export type D = import('../csi/server.ts').D;\n",
    });
    for (const file of ['a', 'b', 'c', 'd'])
      expect(said).toMatch(new RegExp(`src/store/${file}.ts.*does not import csi`));
  });

  test('the code of a joining interface, but not its types', async () => {
    const said = await lint({
      'engine/types.ts': "export type { NodeService } from '../csi/node/node-service.ts';\n",
      'engine/code.ts': "export { something } from '../csi/node/node-service.ts';\n",
    });
    expect(said).toMatch(/src\/engine\/code\.ts.*does not import csi/);
    expect(said).not.toContain('src/engine/types.ts');
  });

  test('a cycle of imports', async () => {
    const said = await lint({
      'store/a.ts': "import { b } from './b.ts';\nexport const a = (): unknown => b;\n",
      'store/b.ts': "import { a } from './a.ts';\nexport const b = (): unknown => a;\n",
    });
    expect(said).toContain('import(no-cycle)');
  });

  test('the environment read outside of config/, and the process ended outside of main.ts', async () => {
    const said = await lint({
      'store/a.ts': 'export const a = process.env.HOME;\n',
      'config/home.ts': 'export const home = process.env.HOME;\n',
      'roles/b.ts': 'export const b = (): never => process.exit(1);\n',
      'main.ts': 'process.exit(0);\n',
    });
    expect(said).toMatch(/src\/store\/a\.ts.*no-restricted-properties/);
    expect(said).toMatch(/src\/roles\/b\.ts.*no-restricted-properties/);
    expect(said).not.toMatch(/src\/(config\/home|main)\.ts/);
  });
});

test('the linter lets through what the code map allows', async () => {
  const said = await lint({
    'roles/standalone.ts': "export { openPool } from '../store/pool.ts';\n",
    'store/pool.ts': "export { z as openPool } from 'zod';\nexport { run } from '../lib/exec.ts';\n",
    'csi/node/stage.ts': "export { check } from '../validate.ts';\nexport { Server } from '@grpc/grpc-js';\n",
    'reconcile/node/make-disk.ts': "export { origin } from '../origin.ts';\nexport { orphans } from './orphans.ts';\n",
    'lib/exec.ts': "export { execa as run } from 'execa';\n",
  });
  expect(said).not.toContain('src/');
});

test('every folder and file at the top of src/ has a line in the code map', async () => {
  const parts = (await readdir(join(repository, 'src'))).map((name) => name.replace(/\.ts$/, ''));
  expect(parts.filter((part) => !(part in codeMap))).toEqual([]);
});
