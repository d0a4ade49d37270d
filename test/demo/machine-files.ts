import { readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../../src/lib/exec.ts';

const timeoutMs = 300_000;

/** Files below one directory. */
export interface FileSet {
  /** Relative paths. */
  names: readonly string[];
  /** The file with their SHA-256 sums, as sha256sum writes and checks it. */
  sums: string;
}

/** Takes files of this machine, in the order of their names, until they are `wantedBytes` or there are no more. */
export async function chooseFiles(root: string, wantedBytes: number): Promise<{ names: string[]; totalBytes: number }> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  const names: string[] = [];
  let totalBytes = 0;
  for (const file of files.sort()) {
    const { size, nlink } = await stat(file);
    // One file with several names would be counted several times, but is copied once.
    if (size === 0 || nlink > 1) continue;
    names.push(path.relative(root, file));
    totalBytes += size;
    if (totalBytes >= wantedBytes) break;
  }
  return { names, totalBytes };
}

/** Writes the sums of files to `sums`. */
export async function sumFiles(root: string, names: readonly string[], sums: string): Promise<FileSet> {
  const { stdout } = await forEach(root, names, ['sha256sum']);
  await writeFile(sums, `${stdout}\n`);
  return { names, sums };
}

/** Copies files and waits until the target's file system has written them. */
export async function copyFiles(root: string, names: readonly string[], target: string): Promise<void> {
  await forEach(root, names, ['cp', '--parents', `--target-directory=${target}`]);
  await syncFilesystem(target);
}

/** @throws with the names of files that differ from their sums or are not there */
export async function compareFiles(directory: string, sums: string): Promise<void> {
  const args = ['-C', directory, 'sha256sum', '--check', '--strict', '--quiet', sums];
  const { exitCode, stdout, stderr } = await run('env', args, { timeoutMs, okExitCodes: [1] });
  if (exitCode === 0) return;
  throw new Error(`files in ${directory} are not what was written:\n${[stdout, stderr].join('\n').slice(0, 2000)}`);
}

export async function syncFilesystem(directory: string): Promise<void> {
  await run('sync', ['--file-system', directory], { timeoutMs });
}

function forEach(root: string, names: readonly string[], command: readonly string[]) {
  const input = names.map((name) => `${name}\0`).join('');
  return run('env', ['-C', root, 'xargs', '--null', ...command], { timeoutMs, input });
}
