import { errnoOf, LaminaError } from '../lib/errors.ts';
import type { Pool } from '../store/pool.ts';

/** @returns `pool-full` where the kernel said so of a write to the pool with `what`, else undefined */
export function poolFull(error: unknown, pool: Pool, what: string): LaminaError | undefined {
  if (!['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '')) return undefined;
  return new LaminaError('pool-full', `the pool ${pool.layout.root} became full with ${what}`, { cause: error });
}
