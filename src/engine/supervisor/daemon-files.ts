import { mkdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import * as z from 'zod/mini';
import { ifErrno, LaminaError } from '../../lib/errors.ts';
import { parseJson } from '../../lib/parse-json.ts';
import { unmountFuseIfMounted } from '../../host/fuse-mount.ts';
import type { ProcessIdentity } from '../../host/process.ts';
import type { DaemonPaths } from './run-directory.ts';
import { type StartRequest, startRequestSchema } from './supervisor-protocol.ts';

const version = 1;
const maxLogBytes = 1024 * 1024;
const specSchema = z.extend(startRequestSchema, { version: z.literal(version), bootId: z.string() });
const stateSchema = z.strictObject({ pid: z.number(), startTime: z.number() });

/** What a daemon was asked to be, and the boot in which it was. */
export type DaemonSpec = StartRequest & { bootId: string };

/** Makes the directory of a daemon with its spec and the file that a FUSE export is mounted on. */
export async function createDaemonFiles(paths: DaemonPaths, spec: DaemonSpec): Promise<void> {
  await mkdir(paths.directory, { recursive: true, mode: 0o700 });
  await writeFile(paths.exportFile, '', { mode: 0o600 });
  await writeWhole(paths.spec, { version, ...spec });
}

export async function writeDaemonState(paths: DaemonPaths, state: ProcessIdentity): Promise<void> {
  await writeWhole(paths.state, state);
}

/** Null where there is none. @throws LaminaError `record-corrupt` */
export async function readDaemonSpec(paths: DaemonPaths): Promise<DaemonSpec | null> {
  return readJson(paths.spec, specSchema);
}

/** Null where there is none. @throws LaminaError `record-corrupt` */
export async function readDaemonState(paths: DaemonPaths): Promise<ProcessIdentity | null> {
  return readJson(paths.state, stateSchema);
}

/** Unmounts the export and removes all files, the spec first: what has no spec is a leftover. Idempotent. */
export async function removeDaemonFiles(paths: DaemonPaths): Promise<void> {
  await unmountFuseIfMounted(paths.exportFile);
  await rm(paths.spec, { force: true });
  await rm(paths.directory, { recursive: true, force: true });
}

/** The last words of a daemon, for messages and the log. */
export async function readLogTail(paths: DaemonPaths): Promise<string> {
  const text = await readFile(paths.log, 'utf8').catch(ifErrno('ENOENT', ''));
  return text.trim().slice(-2000);
}

/** Empties a log that grew long. Whoever appends to it goes on at the new end. */
export async function keepLogShort(file: string): Promise<void> {
  const log = await stat(file).catch(ifErrno('ENOENT', null));
  if (log && log.size > maxLogBytes) await truncate(file);
}

/** No fsync: a daemon does not survive what would need one. */
async function writeWhole(file: string, value: object): Promise<void> {
  await writeFile(`${file}.new`, JSON.stringify(value), { mode: 0o600 });
  await rename(`${file}.new`, file);
}

async function readJson<T>(file: string, schema: z.ZodMiniType<T>): Promise<T | null> {
  const text = await readFile(file, 'utf8').catch(ifErrno('ENOENT', null));
  if (text === null) return null;
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new LaminaError('record-corrupt', `${file} is not what this version writes: ${z.prettifyError(parsed.error)}`);
}
