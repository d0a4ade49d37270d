import { existsSync } from 'node:fs';
import { readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startCsiServer } from '../../../src/csi/server.ts';
import { run } from '../../../src/lib/exec.ts';
import { capability, CsiClient } from '../../csi-client.ts';
import { failureOf, type FakeCsi, startFakeCsi } from '../../fakes/csi.ts';
import { silentLogger } from '../../fakes/silent-logger.ts';

const identity = { version: '1.2.3', ready: async () => true };

function start(endpoint: string) {
  return startCsiServer({ endpoint, identity, logger: silentLogger, onCall: () => {} });
}

describe('startCsiServer', () => {
  it.each(['unix://', 'unix:', ''])("takes '%s' and a path, and serves there", async (prefix) => {
    await using csi = await startFakeCsi();
    const socketPath = path.join(csi.directory, 'other.sock');
    const server = await start(prefix + socketPath);
    const client = new CsiClient(server.socketPath);
    expect(server.socketPath).toBe(socketPath);
    expect((await client.identity.getPluginInfo()).vendorVersion).toBe('1.2.3');
    client.close();
    await server.stop(1000);
  });

  it.each(['csi.sock', 'tcp://127.0.0.1:9000', 'unix:relative.sock'])("refuses '%s'", async (endpoint) => {
    await expect(start(endpoint)).rejects.toMatchObject({ code: 'invalid-parameter' });
  });

  it('makes the directory, and a socket that only its user may open', async () => {
    await using csi = await startFakeCsi();
    const server = await start(path.join(csi.directory, 'a/b/csi.sock'));
    expect((await stat(server.socketPath)).mode & 0o777).toBe(0o600);
    expect(await readdir(path.dirname(server.socketPath))).toEqual(['csi.sock']);
    await server.stop(1000);
  });

  it('refuses where another process listens, which goes on', async () => {
    await using csi = await startFakeCsi();
    await expect(start(csi.server.socketPath)).rejects.toMatchObject({
      code: 'socket-in-use',
      message: expect.stringContaining(csi.server.socketPath),
    });
    await csi.client.identity.probe();
    expect(await readdir(csi.directory)).toEqual(['csi.sock']);
  });

  it('takes the place of a socket that a killed process left', async () => {
    await using csi = await startFakeCsi();
    const socketPath = path.join(csi.directory, 'stale.sock');
    await leaveStaleSocket(socketPath);
    const server = await start(socketPath);
    const client = new CsiClient(socketPath);
    expect(await client.isReady()).toBe(true);
    client.close();
    await server.stop(1000);
  });

  it('does not remove what is no socket', async () => {
    await using csi = await startFakeCsi();
    const file = path.join(csi.directory, 'notes.txt');
    await writeFile(file, 'precious');
    await expect(start(file)).rejects.toMatchObject({ code: 'socket-in-use' });
    expect(existsSync(file)).toBe(true);
  });

  it('of two that start at once, one serves and the other is refused', async () => {
    await using csi = await startFakeCsi();
    const socketPath = path.join(csi.directory, 'race.sock');
    const started = await Promise.allSettled([start(socketPath), start(socketPath)]);
    const servers = started.filter((result) => result.status === 'fulfilled').map(({ value }) => value);
    expect(servers).toHaveLength(1);
    expect(await readdir(csi.directory)).toEqual(['csi.sock', 'race.sock']);
    await servers[0]?.stop(1000);
  });

  it('names the limit where the path is too long for a socket', async () => {
    await using csi = await startFakeCsi();
    const longest = path.join(csi.directory, 'x'.repeat(107 - csi.directory.length - 1));
    const server = await start(longest);
    await server.stop(1000);
    await expect(start(`${longest}y`)).rejects.toMatchObject({
      code: 'invalid-parameter',
      message: expect.stringMatching(/1 bytes too long.*107/),
    });
  });

  it('says so where the directory cannot be written', async () => {
    await using csi = await startFakeCsi();
    const file = path.join(csi.directory, 'file');
    await writeFile(file, '');
    await expect(start(path.join(file, 'csi.sock'))).rejects.toThrow(/ENOTDIR|EEXIST/);
  });
});

describe('stop', () => {
  it('lets a running call end, takes no new ones, and removes the socket', async () => {
    await using csi = await startFakeCsi();
    const { volume, open } = await createSlowly(csi);
    const stopped = csi.server.stop(10_000);
    await expect.poll(() => existsSync(csi.server.socketPath)).toBe(false);
    open();
    expect((await volume).volume?.volumeId).toBe('pvc-1');
    expect(await stopped).toBe(true);
    const late = new CsiClient(csi.server.socketPath);
    expect(await failureOf(late.identity.probe({}, { timeoutMs: 2000 }))).toMatch(/^UNAVAILABLE/);
    late.close();
  });

  it('waits for an operation whose client is gone', async () => {
    await using csi = await startFakeCsi();
    // It begins before the client gives up, on a busy machine, too.
    const { volume, open } = await createSlowly(csi, 2000);
    expect(await failureOf(volume)).toMatch(/^DEADLINE_EXCEEDED/);
    let done = false;
    const stopped = csi.server.stop(10_000).then((inTime) => {
      done = true;
      return inTime;
    });
    await expect.poll(() => existsSync(csi.server.socketPath)).toBe(false);
    expect(done).toBe(false);
    open();
    expect(await stopped).toBe(true);
    expect(csi.disks.disks.has('pvc-1')).toBe(true);
  });

  it('gives up on a call that does not end in time, and says so', async () => {
    await using csi = await startFakeCsi();
    const { volume, open } = await createSlowly(csi);
    const [inTime, failure] = await Promise.all([csi.server.stop(50), failureOf(volume)]);
    expect(inTime).toBe(false);
    expect(failure).toMatch(/^(UNAVAILABLE|CANCELLED)/);
    open();
  });

  it('leaves the socket of a successor alone', async () => {
    await using csi = await startFakeCsi();
    const socketPath = path.join(csi.directory, 'shared.sock');
    const first = await start(socketPath);
    await run('rm', [socketPath], { timeoutMs: 5000 });
    const second = await start(socketPath);
    await first.stop(1000);
    expect(existsSync(socketPath)).toBe(true);
    await second.stop(1000);
    expect(existsSync(socketPath)).toBe(false);
  });
});

/** A CreateVolume that has begun, and ends after `open()`. */
async function createSlowly(csi: FakeCsi, timeoutMs = 60_000) {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  csi.disks.onOperation = async () => {
    begin();
    await gate;
  };

  const volumeCapabilities = [capability({ kind: 'mount' })];
  const volume = csi.client.controller.createVolume({ name: 'pvc-1', volumeCapabilities }, { timeoutMs });
  volume.catch(() => {});
  await begun;
  return { volume, open };
}

/** A bound socket that nobody listens on any more. */
async function leaveStaleSocket(socketPath: string): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await run(process.execPath, ['-e', script], { timeoutMs: 10_000 }).catch(() => {});
  expect((await stat(socketPath)).isSocket()).toBe(true);
}
