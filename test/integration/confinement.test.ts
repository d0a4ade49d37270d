import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { chmod, chown, type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../src/lib/bytes.ts';
import { type Confinement, limitReached } from '../../src/lib/confinement.ts';
import { run, runFilter, toolFailure } from '../../src/lib/exec.ts';
import { assertUndamaged, convertUntrusted, untrustedUserId } from '../../src/qemu/untrusted-image.ts';

const timeoutMs = 60_000;
const confined: Confinement = {
  userId: untrustedUserId,
  cpuSeconds: 10,
  addressSpaceBytes: GiB,
  fileBytes: 0,
  descriptors: [],
};
const shell = (script: string, limits: Partial<Confinement> = {}) =>
  run('sh', ['-c', script], { timeoutMs, confined: { ...confined, ...limits } });
const failureOf = (ended: Promise<unknown>) =>
  ended.then(
    () => undefined,
    (error: unknown) => toolFailure(error),
  );

describe('a confined tool', () => {
  let directory: string;
  let opened: FileHandle[];
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-confined-'));
    opened = [];
  });
  afterEach(async () => {
    for (const handle of opened) await handle.close();
    rmSync(directory, { recursive: true });
  });
  const opens = async (name: string, flags: string) => {
    const handle = await open(path.join(directory, name), flags);
    opened.push(handle);
    return handle;
  };

  it('has no privileges and no network', async () => {
    const { stdout } = await shell(
      'id -u; id -G; cat /proc/net/dev | tail -n +3 | wc -l; grep CapEff /proc/self/status',
    );
    expect(stdout.split(/\s+/).slice(0, 3)).toEqual([String(untrustedUserId), String(untrustedUserId), '1']);
    expect(stdout).toMatch(/CapEff:\s+0+$/);
  });

  it('that takes too much CPU time is ended, which is told from other ends', async () => {
    const failure = await failureOf(shell('while :; do :; done', { cpuSeconds: 1 }));
    expect(failure?.signal).toBe('SIGXCPU');
    expect(limitReached(failure as never)).toMatch(/CPU time/);
  });

  it('that takes too much memory is told from others', async () => {
    execFileSync('sh', ['-c', `head -c 64M /dev/zero | xz -9 >${directory}/packed`]);
    const { fd: input } = await opens('packed', 'r');
    const limits = { ...confined, addressSpaceBytes: 40 * MiB };
    const unpacks = async () => {
      for await (const _ of runFilter('xz', ['-dc', '-T1'], { input, timeoutMs, confined: limits }));
    };
    expect(limitReached((await failureOf(unpacks())) as never)).toMatch(/memory/);
  });

  it('that is killed from outside has reached no limit', async () => {
    const failure = await failureOf(shell('kill -9 $$'));
    expect(failure?.signal).toBe('SIGKILL');
    expect(limitReached(failure as never)).toBeUndefined();
  });

  const image = async (format: 'qcow2' | 'raw', sizeBytes: number) => {
    const file = path.join(directory, 'source');
    execFileSync('qemu-img', ['create', '-q', '-f', format, file, '128M']);
    execFileSync('qemu-io', ['-f', format, '-c', 'write -P 0x41 0 128M', file]);
    await chmod(directory, 0o755);
    const { fd: descriptor } = await opens('source', 'r');
    return { descriptor, format, sizeBytes, name: 'that', signal: new AbortController().signal };
  };

  it('of QEMU that writes more than the image may have is a final verdict on the image', async () => {
    const source = await image('qcow2', MiB);
    execFileSync('qemu-img', ['create', '-q', '-f', 'raw', path.join(directory, 'target'), '128M']);
    await chown(path.join(directory, 'target'), untrustedUserId, untrustedUserId);
    const { fd: descriptor } = await opens('target', 'r+');
    const converted = convertUntrusted(source, { descriptor, format: 'raw' });
    await expect(converted).rejects.toMatchObject({
      code: 'image-refused',
      message: expect.stringContaining('that becomes bigger than it says that it is'),
    });
  });

  it('of QEMU that reads nonsense is a final verdict on the image', async () => {
    const source = await image('raw', 128 * MiB);
    await expect(assertUndamaged({ ...source, format: 'qcow2' })).rejects.toMatchObject({
      code: 'image-refused',
      message: expect.stringContaining('QEMU cannot read it'),
    });
  });

  it('turns a file into its output, and is killed where nobody wants more', async () => {
    execFileSync('sh', ['-c', `head -c 64M /dev/zero >${directory}/zeroes`]);
    const { fd: input } = await opens('zeroes', 'r');
    let bytes = 0;
    for await (const piece of runFilter('cat', [], { input, timeoutMs, confined })) bytes += piece.length;
    expect(bytes).toBe(64 * MiB);
    const { fd: again } = await opens('zeroes', 'r');
    for await (const piece of runFilter('sh', ['-c', 'cat; exec sleep 301.5'], { input: again, timeoutMs, confined })) {
      if (piece.length > 0) break;
    }
    expect(execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })).not.toContain('sleep 301.5');
    const { fd: third } = await opens('zeroes', 'r');
    const fails = async () => {
      for await (const _ of runFilter('sh', ['-c', 'echo no >&2; exit 3'], { input: third, timeoutMs, confined }));
    };
    expect(await failureOf(fails())).toMatchObject({ exitCode: 3, stderr: 'no' });
  });
});
