import { type FileHandle, open, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { ifErrno, LaminaError } from '../lib/errors.ts';
import { run, toolFailure } from '../lib/exec.ts';
import { type Mount, readMounts } from './mountinfo.ts';

const flushTimeoutMs = 300_000;
/** Freezing flushes what was written since the last flush; meanwhile all writers wait. */
const freezeTimeoutMs = 10_000;
/** A freeze that was given up is finished by the kernel first. */
const thawTimeoutMs = 30_000;

/**
 * A mounted file system that cannot be unmounted meanwhile: a frozen one that is unmounted stays frozen, out of reach
 * of any path.
 */
export interface HeldMount {
  /** Leads to this mount and no other, even where something is mounted over it or nothing is mounted there any more. */
  path: string;
  release(): Promise<void>;
}

/**
 * Holds what is mounted at a mount's place; null where that is not this file system any more.
 *
 * The check makes the difference between freezing a disk and freezing the node's own file system, which is what the
 * same path leads to once the disk is unmounted.
 */
export async function holdMount(mount: Pick<Mount, 'device' | 'mountPoint'>): Promise<HeldMount | null> {
  const handle = await open(mount.mountPoint, 'r').catch(ifErrno('ENOENT', null));
  if (!handle) return null;
  try {
    const found = await mountOf(handle);
    if (found?.mountPoint === mount.mountPoint && found.device === mount.device) {
      return { path: `/proc/${process.pid}/fd/${handle.fd}`, release: () => handle.close() };
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  return null;
}

async function mountOf(handle: FileHandle): Promise<Mount | undefined> {
  const info = await readFile(`/proc/self/fdinfo/${handle.fd}`, 'utf8');
  const id = Number(/^mnt_id:\s*([0-9]+)$/m.exec(info)?.[1]);
  return (await readMounts()).find((mount) => mount.id === id);
}

/** Writes out what is cached, while writing goes on: what a freeze then has to wait for is little. */
export async function flush(held: HeldMount): Promise<void> {
  await runWithin('sync', ['--file-system', held.path], flushTimeoutMs);
}

/**
 * Stops all writing to a file system and flushes it. It stays so until it is thawed, also when this process dies.
 *
 * @returns false where it was frozen already, by somebody else
 * @throws LaminaError `timeout`: whether it is frozen is then not known, so thaw it
 */
export async function freeze(held: HeldMount, timeoutMs = freezeTimeoutMs): Promise<boolean> {
  return freezeCommand('--freeze', held, { timeoutMs, alreadySo: 'Device or resource busy' });
}

/** @returns false where it was not frozen. @throws LaminaError `timeout` */
export async function thaw(held: HeldMount): Promise<boolean> {
  return freezeCommand('--unfreeze', held, { timeoutMs: thawTimeoutMs, alreadySo: 'Invalid argument' });
}

async function freezeCommand(
  verb: string,
  held: HeldMount,
  { timeoutMs, alreadySo }: { timeoutMs: number; alreadySo: string },
): Promise<boolean> {
  try {
    await runWithin('fsfreeze', [verb, held.path], timeoutMs);
    return true;
  } catch (error) {
    if (toolFailure(error)?.stderr.includes(alreadySo)) return false;
    throw error;
  }
}

/** These system calls cannot be interrupted where I/O stands still, so neither can the process: its end is not waited for. */
async function runWithin(file: string, args: readonly string[], timeoutMs: number): Promise<void> {
  const over = new AbortController();
  const deadline = delay(timeoutMs + 1000, undefined, { signal: over.signal }).then(() => {
    const command = [file, ...args].join(' ');
    throw new LaminaError('timeout', `${command}: no end within ${timeoutMs} ms; the disk's I/O stands still`);
  });
  try {
    await Promise.race([run(file, args, { timeoutMs }), deadline]);
  } finally {
    deadline.catch(() => {});
    over.abort();
  }
}
