import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod/mini';
import { errnoOf, isLaminaError, LaminaError, messageOf } from './errors.ts';

/** Makes what was created, renamed or removed in `directory` survive a power cut. */
export async function syncDirectory(directory: string): Promise<void> {
  await syncFile(directory);
}

/** Flushes a file's data and metadata to stable storage. */
export async function syncFile(file: string): Promise<void> {
  const handle = await open(file, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes `value` as JSON to `file`, whole or not at all: temporary file in `tmpDirectory` (same file system), fsync,
 * rename, fsync of the directory. Killed anywhere, the old record or the new one is there, never a mixture.
 */
export async function writeRecord(file: string, value: unknown, tmpDirectory: string): Promise<void> {
  await replaceRecord(file, value, tmpDirectory);
  await syncDirectory(path.dirname(file));
}

/** The first part of writeRecord: from here on everybody reads the new record, and only a power cut can bring the old one back. */
export async function replaceRecord(file: string, value: unknown, tmpDirectory: string): Promise<void> {
  const temporary = path.join(tmpDirectory, `record-${randomBytes(8).toString('hex')}`);
  try {
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(`${JSON.stringify(value, null, 2)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

const versioned = z.object({ version: z.int() });

/**
 * Reads a record and checks it against `schema`.
 *
 * @throws LaminaError `record-version` for another version than `version`, `record-corrupt` for anything that is not
 *   such a record; both name the file. Errors of the file system (ENOENT, …) come as they are.
 */
export async function readRecord<T>(file: string, version: number, schema: z.core.$ZodType<T>): Promise<T> {
  const text = await readFile(file, 'utf8');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw corrupt(file, `it is not JSON (${messageOf(error)})`);
  }
  const head = z.safeParse(versioned, json);
  if (!head.success) throw corrupt(file, 'it has no version');
  if (head.data.version !== version) {
    throw new LaminaError(
      'record-version',
      `${file} is a record of version ${head.data.version}, this program reads version ${version}: run the lamina that wrote it, or a newer one`,
    );
  }
  const record = z.safeParse(schema, json);
  if (!record.success) throw corrupt(file, z.prettifyError(record.error).replaceAll('\n', ' '));
  return record.data;
}

/** The same for what can be made anew: a record that is not there, damaged or of another version counts as none. */
export async function readRecordIfAny<T>(file: string, version: number, schema: z.core.$ZodType<T>): Promise<T | null> {
  try {
    return await readRecord(file, version, schema);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || isLaminaError(error)) return null;
    throw error;
  }
}

function corrupt(file: string, what: string): LaminaError {
  return new LaminaError(
    'record-corrupt',
    `${file} is damaged: ${what}. Restore it from a backup, or let 'lamina check --repair' set it aside`,
  );
}
