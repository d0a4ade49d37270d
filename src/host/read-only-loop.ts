import { run } from '../lib/exec.ts';
import { readAttribute } from './block-device.ts';
import { canBeSameFile, fileIdentity, fileOfLoopDevice, isSameFile, listLoopDevices } from './loop.ts';

const timeoutMs = 30_000;

/**
 * Read-only loop devices whose file is the block device `device`, as paths. A writable device gets a read-only one on
 * it from nobody but us, so these are ours; the kubelet's own loop devices on a volume can be written.
 */
export async function listReadOnlyLoops(device: string): Promise<string[]> {
  const found = [];
  for (const { path: loop, fileName } of await listLoopDevices()) {
    if (!canBeSameFile(fileName, device) || (await readAttribute(loop, 'ro')) !== '1') continue;
    if (isSameFile(await fileOfLoopDevice(loop), await fileIdentity(device))) found.push(loop);
  }
  return found;
}

/** Puts a read-only block device on a writable one. @returns its path */
export async function createReadOnlyLoop(device: string): Promise<string> {
  const args = ['--find', '--show', '--read-only', '--direct-io=on', '--', device];
  const { stdout } = await run('losetup', args, { timeoutMs });
  return stdout.trim();
}
