import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { chmod, copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { identifyProcess, isAlive, type ProcessIdentity } from '../../src/host/process.ts';
import { pollUntil } from '../../src/lib/poll.ts';
import { processesNaming } from '../standalone.ts';

/** Stands for the supervisor: starts a daemon in a session of its own unless there is one, and stays. */
const supervisor = `#!/bin/sh
echo "$*" >"$0.arguments"
[ -e "$0.daemon" ] || { : >"$0.daemon"; setsid "$(dirname "$0")/qemu-storage-daemon" 1000 & }
trap 'exit 3' TERM
while :; do sleep 0.1; done
`;

let directory: string;
let init: ChildProcess;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lamina-init-'));
  await copyFile(path.resolve(import.meta.dirname, '../../bin/lamina-engine'), path.join(directory, 'lamina-engine'));
  await writeFile(path.join(directory, 'lamina'), supervisor);
  await copyFile('/bin/sleep', path.join(directory, 'qemu-storage-daemon'));
  for (const file of ['lamina-engine', 'lamina', 'qemu-storage-daemon']) await chmod(path.join(directory, file), 0o755);
});
afterEach(async () => {
  init?.kill('SIGKILL');
  expect(
    await pollUntil(async () => (await processesNaming(directory)).length === 0, { timeoutMs: 10_000, intervalMs: 20 }),
  ).toBe(true);
  await rm(directory, { recursive: true });
});

/** The script as the first process of a container, with the processes of its own only. */
async function start(drainSeconds: number): Promise<void> {
  const command = [
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
    path.join(directory, 'lamina-engine'),
    '--run-dir',
    directory,
  ];
  init = spawn('unshare', command, {
    env: { ...process.env, LAMINA_DRAIN_SECONDS: String(drainSeconds) },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await find('qemu-storage-daemon 1000');
}

/** The process whose command line ends so, as soon as there is one. */
async function find(words: string): Promise<ProcessIdentity> {
  let found: ProcessIdentity | null = null;
  const look = async () => {
    // setsid has the words, too, before it becomes the daemon.
    const process = (await processesNaming(directory)).find(
      ({ command }) => command.trim().endsWith(words) && !command.startsWith('setsid'),
    );
    found = process ? await identifyProcess(process.pid) : null;
    return found !== null;
  };
  expect(await pollUntil(look, { timeoutMs: 10_000, intervalMs: 20 }), words).toBe(true);
  return found as unknown as ProcessIdentity;
}

const findSupervisor = () => find(`lamina engine --run-dir ${directory}`);
const findScript = () => find(`/bin/sh ${directory}/lamina-engine --run-dir ${directory}`);
const gone = (identity: ProcessIdentity) =>
  pollUntil(async () => !(await isAlive(identity)), { timeoutMs: 10_000, intervalMs: 20 });

/** Waits until the script has said something with these words. */
async function said(words: string): Promise<void> {
  let text = '';
  init.stderr?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  expect(await pollUntil(() => text.includes(words), { timeoutMs: 10_000, intervalMs: 20 }), words).toBe(true);
}

async function ended(): Promise<number | null> {
  if (init.exitCode === null) await once(init, 'exit');
  return init.exitCode;
}

test('starts a supervisor that was killed again, and leaves the daemons alone', async () => {
  await start(0);
  const daemon = await find('qemu-storage-daemon 1000');
  const first = await findSupervisor();
  process.kill(first.pid, 'SIGKILL');
  expect(await gone(first)).toBe(true);
  const second = await findSupervisor();
  expect(second.pid).not.toBe(first.pid);
  expect(await isAlive(daemon)).toBe(true);
  expect(await readFile(path.join(directory, 'lamina.arguments'), 'utf8')).toBe(`engine --run-dir ${directory}\n`);
});

test('collects the daemons that end after their supervisor', async () => {
  await start(0);
  const daemon = await find('qemu-storage-daemon 1000');
  const first = await findSupervisor();
  process.kill(first.pid, 'SIGKILL');
  expect(await gone(first)).toBe(true);
  process.kill(daemon.pid, 'SIGKILL');
  // A zombie would still have its directory.
  const isCollected = () =>
    readFile(`/proc/${daemon.pid}/stat`).then(
      () => false,
      () => true,
    );
  expect(await pollUntil(isCollected, { timeoutMs: 10_000, intervalMs: 20 })).toBe(true);
});

test('told to stop, it ends at once where no volume is in use', async () => {
  await start(60);
  const daemon = await find('qemu-storage-daemon 1000');
  process.kill(daemon.pid, 'SIGKILL');
  expect(await gone(daemon)).toBe(true);
  process.kill((await findScript()).pid, 'SIGTERM');
  expect(await ended()).toBe(0);
});

test('told to stop, it goes on until the last volume is detached, supervisor included', async () => {
  await start(60);
  const daemon = await find('qemu-storage-daemon 1000');
  const supervising = await findSupervisor();
  process.kill((await findScript()).pid, 'SIGTERM');
  await said('1 volumes are in use');
  expect([await isAlive(daemon), await isAlive(supervising)]).toEqual([true, true]);
  process.kill(daemon.pid, 'SIGKILL');
  expect(await ended()).toBe(0);
});

test('told to stop, it ends the daemons of volumes that are still in use in the end', async () => {
  await start(1);
  const daemon = await find('qemu-storage-daemon 1000');
  process.kill((await findScript()).pid, 'SIGTERM');
  expect(await ended()).toBe(0);
  expect(await isAlive(daemon)).toBe(false);
});

test('tells whether a supervisor listens', async () => {
  const probe = () => spawnSync(path.join(directory, 'lamina-engine'), ['--probe', directory], { encoding: 'utf8' });
  expect(probe()).toMatchObject({ stderr: expect.stringContaining(`no supervisor listens in ${directory}`) });
  const server = createServer().listen(path.join(directory, 'engine.sock'));
  await once(server, 'listening');
  expect(probe()).toMatchObject({ status: 0, stderr: '' });
  server.close();
});
