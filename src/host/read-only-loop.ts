import { readdir } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { run } from '../lib/exec.ts';
import { readAttribute } from './block-device.ts';
import { fileIdentity } from './loop.ts';

const timeoutMs = 30_000;

/** Newer util-linux prints JSON booleans and numbers, older ones strings. */
const listing = z.object({
  loopdevices: z.array(
    z.object({
      name: z.string(),
      ro: z.union([z.boolean(), z.enum(['0', '1']).transform((text) => text === '1')]),
      // Null for a device that is just going away, or whose file is on a file system that is dead.
      'back-ino': z.union([z.null(), z.coerce.number()]),
      'back-maj:min': z.string().nullable(),
    }),
  ),
});

/**
 * Read-only loop devices whose file is the block device `device`, as paths. A writable device gets a read-only one on
 * it from nobody but us, so these are ours; the kubelet's own loop devices on a volume can be written.
 */
export async function listReadOnlyLoops(device: string): Promise<string[]> {
  if (!(await hasReadOnlyLoop())) return [];
  const { inode, device: filesystem } = await fileIdentity(device);
  const columns = 'NAME,RO,BACK-INO,BACK-MAJ:MIN';
  const { stdout } = await run('losetup', ['--json', '--list', '--output', columns], { timeoutMs });
  if (stdout.trim() === '') return [];
  return listing
    .parse(JSON.parse(stdout))
    .loopdevices.filter((loop) => loop.ro && loop['back-ino'] === inode)
    .filter((loop) => loop['back-maj:min']?.replaceAll(' ', '') === filesystem)
    .map((loop) => path.join('/dev', path.basename(loop.name)));
}

/** Mostly there is none on the whole machine, and no program needs to be started to learn that. */
async function hasReadOnlyLoop(): Promise<boolean> {
  const names = (await readdir('/sys/block')).filter((name) => name.startsWith('loop'));
  const flags = names.map((name) => readAttribute(name, 'ro'));
  return (await Promise.all(flags)).some((flag) => flag === '1');
}

/** Puts a read-only block device on a writable one. @returns its path */
export async function createReadOnlyLoop(device: string): Promise<string> {
  const args = ['--find', '--show', '--read-only', '--direct-io=on', '--', device];
  const { stdout } = await run('losetup', args, { timeoutMs });
  return stdout.trim();
}
