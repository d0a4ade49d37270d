import { run } from '../lib/exec.ts';

/** Writes out what the kernel holds of a device and forgets it, so that the next read comes from below. */
export async function flushBuffers(device: string): Promise<void> {
  await run('blockdev', ['--flushbufs', device], { timeoutMs: 30_000 });
}

/** Makes a range of a device read as zeros, by whatever the kernel has for that. */
export async function zeroRange(device: string, range: { offset: number; length: number }): Promise<void> {
  const where = ['--offset', String(range.offset), '--length', String(range.length)];
  await run('blkdiscard', ['--zeroout', ...where, device], { timeoutMs: 30_000 });
}
