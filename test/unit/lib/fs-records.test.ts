import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readRecord, writeRecord } from '../../../src/lib/fs-records.ts';

const schema = z.strictObject({ version: z.literal(1), name: z.string() });

describe('records', () => {
  let directory: string;
  let file: string;
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'lamina-records-'));
    file = path.join(directory, 'record.json');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('are read as they were written, and leave no temporary file', async () => {
    await writeRecord(file, { version: 1, name: 'a' }, directory);
    await writeRecord(file, { version: 1, name: 'b' }, directory);
    expect(await readRecord(file, 1, schema)).toEqual({ version: 1, name: 'b' });
    expect(readdirSync(directory)).toEqual(['record.json']);
  });

  it('leave no temporary file where they cannot be written', async () => {
    const nowhere = path.join(directory, 'missing', 'record.json');
    await expect(writeRecord(nowhere, { version: 1 }, directory)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(readdirSync(directory)).toEqual([]);
  });

  it.each([
    ['torn', '{"version": 1, "na', 'record-corrupt'],
    ['empty', '', 'record-corrupt'],
    ['not an object', '[]', 'record-corrupt'],
    ['of another version', '{"version": 2, "name": "a"}', 'record-version'],
    ['lacking a member', '{"version": 1}', 'record-corrupt'],
    ['with a member we do not know', '{"version": 1, "name": "a", "more": 1}', 'record-corrupt'],
  ])('that are %s are refused with the name of the file', async (_, text, code) => {
    writeFileSync(file, text);
    const error = await readRecord(file, 1, schema).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code, message: expect.stringContaining(file) });
  });
});
