import { type FileHandle, open } from 'node:fs/promises';
import { hostname } from 'node:os';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { ifErrno, LaminaError } from '../lib/errors.ts';

/** Exit code that flock(1) is told to use where somebody else holds the lock. */
const heldElsewhere = 75;

/**
 * Takes an advisory lock (flock) for the life of this process and writes down who holds it. flock(1) locks the file
 * description it inherits from us and ends; the lock stays with our handle, and goes with this process however it dies.
 *
 * @returns a function that gives the lock up.
 * @throws LaminaError `pool-locked` that says who holds it.
 */
export async function takeLock(lockFile: string, what: string): Promise<() => Promise<void>> {
  const handle = await open(lockFile, 'a+', 0o600);
  try {
    const code = await flock(handle);
    if (code === heldElsewhere) {
      throw new LaminaError('pool-locked', `${what} is in use by ${await holderOf(handle)}: stop it first`);
    }
    if (code !== 0) throw new LaminaError('tool-failed', `flock ${lockFile}: exit code ${code}`);
    await handle.truncate(0);
    await handle.appendFile(JSON.stringify({ pid: process.pid, host: hostname(), since: new Date().toISOString() }));
  } catch (error) {
    await handle.close();
    throw error;
  }
  return () => handle.close();
}

/** Whether a live process holds the lock. Takes it for a moment where none does. */
export async function isLocked(lockFile: string): Promise<boolean> {
  const handle = await open(lockFile, 'r').catch(ifErrno('ENOENT', null));
  if (!handle) return false;
  try {
    return (await flock(handle)) === heldElsewhere;
  } finally {
    await handle.close();
  }
}

async function flock(handle: FileHandle): Promise<number | null> {
  const args = ['--nonblock', '--conflict-exit-code', String(heldElsewhere), '3'];
  const child = spawn('flock', args, { stdio: ['ignore', 'ignore', 'ignore', handle.fd] });
  const [code] = (await once(child, 'exit')) as [number | null];
  return code;
}

async function holderOf(handle: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
  return bytesRead > 0 ? buffer.toString('utf8', 0, bytesRead) : 'another process';
}
