import { truncate } from 'node:fs/promises';
import { run, toolFailure } from '../lib/exec.ts';
import { LaminaError } from '../lib/errors.ts';

const timeoutMs = 600_000;

/**
 * Extends a file of `fromBytes` to `sizeBytes` with blocks allocated; what is in it stays, and where that fails, all is as
 * it was.
 *
 * @throws LaminaError `pool-full`
 */
export async function extendAllocated(file: string, fromBytes: number, sizeBytes: number): Promise<void> {
  const args = ['--offset', String(fromBytes), '--length', String(sizeBytes - fromBytes), '--', file];
  try {
    await run('fallocate', args, { timeoutMs });
  } catch (error) {
    // It grew as far as there was room.
    await truncate(file, fromBytes);
    if (!toolFailure(error)?.stderr.includes('No space left')) throw error;
    throw new LaminaError('pool-full', `${file} cannot grow to ${sizeBytes} bytes: no space left`, { cause: error });
  }
}
