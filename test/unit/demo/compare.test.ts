import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseFiles, compareFiles, copyFiles, sumFiles } from '../../demo/machine-files.ts';
import { countRecords, whileWriting } from '../../demo/writer.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lamina-demo-test-'));
});

afterEach(() => rm(directory, { recursive: true }));

describe('what the demo compares', () => {
  const source = () => path.join(directory, 'source');
  const copy = () => path.join(directory, 'copy');
  const sums = () => path.join(directory, 'sums');

  beforeEach(async () => {
    await mkdir(path.join(source(), 'a b'), { recursive: true });
    await mkdir(copy());
    await writeFile(path.join(source(), 'a b', "it's"), 'one');
    await writeFile(path.join(source(), 'two'), 'two');
    await writeFile(path.join(source(), 'empty'), '');
    const { names } = await chooseFiles(source(), 1000);
    expect(names).toEqual(["a b/it's", 'two']);
    await copyFiles(source(), names, copy());
    await sumFiles(source(), names, sums());
  });

  it('copies that are the same pass', async () => {
    await compareFiles(copy(), sums());
  });

  it('a single other byte is found, and its file named', async () => {
    await writeFile(path.join(copy(), 'two'), 'twO');
    await expect(compareFiles(copy(), sums())).rejects.toThrow('two: FAILED');
  });

  it('a file that is gone is found', async () => {
    await rm(path.join(copy(), 'a b'), { recursive: true });
    await expect(compareFiles(copy(), sums())).rejects.toThrow('No such file');
  });
});

describe('the program that writes during the demo', () => {
  const file = () => path.join(directory, 'journal');

  const write = () =>
    whileWriting(file(), async (writer) => {
      await writer.goesOn(3);
      return writer.acknowledged;
    });

  it('everything that it had on disk is counted', async () => {
    const acknowledged = await write();
    expect(await countRecords(file(), acknowledged)).toBeGreaterThanOrEqual(acknowledged);
  });

  it('fewer records than were on disk are found', async () => {
    const acknowledged = await write();
    await truncate(file(), 4096);
    await expect(countRecords(file(), acknowledged)).rejects.toThrow('1 records are there');
  });

  it('a record with other content is found', async () => {
    await write();
    await writeFile(file(), Buffer.alloc(4096, 'record 1 '));
    await expect(countRecords(file(), 1)).rejects.toThrow('record 0 is not what was written');
  });
});
