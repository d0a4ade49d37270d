import { mkdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { ifErrno } from '../lib/errors.ts';
import { syncDirectory } from '../lib/fs-records.ts';
import { type Pool, listNames } from './pool.ts';

/**
 * Where downloads are kept until they are whole, each in a directory of its own, so that a restarted process goes on
 * with them: no start empties it, and nothing in it is ever served. Whoever makes such a directory removes it, when its
 * work is done or has failed for good; the reconciler discards those that it wants no more, and sweeps those that nobody
 * can want.
 */
export function incomingDirectory(pool: Pool, name: string): string {
  return path.join(pool.layout.incoming, name);
}

/** Makes the directory where it is not there. @returns its path */
export async function ensureIncoming(pool: Pool, name: string): Promise<string> {
  const directory = incomingDirectory(pool, name);
  await mkdir(directory, { mode: 0o700, recursive: true });
  await syncDirectory(pool.layout.incoming);
  return directory;
}

/** Idempotent. Nobody may still be writing to it. */
export async function discardIncoming(pool: Pool, name: string): Promise<void> {
  await rm(incomingDirectory(pool, name), { recursive: true, force: true });
  await syncDirectory(pool.layout.incoming);
}

/** What is kept, by name. */
export async function listIncoming(pool: Pool): Promise<string[]> {
  return listNames(pool.layout.incoming);
}

/** Of what is kept under a name that begins with `prefix`: what the rest of it says, and when something last happened to it. */
export async function listIncomingOf<Id>(
  pool: Pool,
  prefix: string,
  parse: (rest: string) => Id | undefined,
): Promise<{ id: Id; changedAt: Date }[]> {
  const names = (await listIncoming(pool)).filter((name) => name.startsWith(prefix));
  const listed = names.map(async (name) => {
    const id = parse(name.slice(prefix.length));
    if (id === undefined) return [];
    const { mtime: changedAt } = await stat(incomingDirectory(pool, name)).catch(
      ifErrno('ENOENT', { mtime: new Date(0) }),
    );
    return [{ id, changedAt }];
  });
  return (await Promise.all(listed)).flat();
}
