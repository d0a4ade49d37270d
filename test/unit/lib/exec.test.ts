import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { run, toolFailure } from '../../../src/lib/exec.ts';

const timeoutMs = 10_000;

describe('run', () => {
  it('hands over arguments as they are, without a shell', async () => {
    const odd = ['a b', '$HOME', ';ls', '"', '--'];
    const { stdout } = await run('printf', ['%s\\n', ...odd], { timeoutMs });
    expect(stdout.split('\n')).toEqual(odd);
  });

  it('does not pass the environment on', async () => {
    vi.stubEnv('LAMINA_SECRET', 'x');
    expect((await run('env', [], { timeoutMs })).stdout).not.toContain('LAMINA_SECRET');
    vi.unstubAllEnvs();
  });

  it('fails with the exit code and the last words', async () => {
    const error = await run('sh', ['-c', 'echo sorry >&2; exit 3'], { timeoutMs }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'tool-failed', message: expect.stringContaining('exit code 3: sorry') });
    expect(toolFailure(error)).toEqual({ exitCode: 3, stderr: 'sorry' });
  });

  it('takes exit codes that are an answer', async () => {
    expect((await run('sh', ['-c', 'exit 3'], { timeoutMs, okExitCodes: [3] })).exitCode).toBe(3);
  });

  it('kills what does not end in time', async () => {
    await expect(run('sleep', ['60'], { timeoutMs: 100 })).rejects.toMatchObject({ code: 'timeout' });
  });

  it('says which tool is missing', async () => {
    await expect(run('no-such-tool', [], { timeoutMs })).rejects.toMatchObject({
      code: 'tool-missing',
      message: expect.stringContaining('no-such-tool'),
    });
  });

  it('leaves no child behind when this process is killed', async () => {
    const module = path.resolve('src/lib/exec.ts');
    const script = `import { run } from ${JSON.stringify(module)}; run('sleep', ['300.25'], { timeoutMs: 1e6 });`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
    const child = await vi.waitFor(() => childOf(parent.pid as number), { timeout: timeoutMs });
    parent.kill('SIGKILL');
    await once(parent, 'exit');
    await vi.waitFor(() => expect(existsSync(`/proc/${child}`)).toBe(false), { timeout: timeoutMs });
  });
});

/** The pid of the `sleep` that `parent` runs; throws while there is none, or is what is to become it, which is not bound to `parent` yet. */
function childOf(parent: number): number {
  const lines = execFileSync('ps', ['-o', 'pid=,args=', '--ppid', String(parent)], { encoding: 'utf8' });
  const line = lines.split('\n').find((text) => /^ *\d+ sleep 300\.25$/.test(text));
  return Number.parseInt(line ?? '', 10) || fail(lines);
}

function fail(lines: string): never {
  throw new Error(`not yet: ${lines}`);
}
