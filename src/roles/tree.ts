import type { TreeConfig } from '../config/pool-commands.ts';
import { formatTree, readTree } from '../store/tree.ts';

/** `lamina tree`: exit code 0, or 4 where the pool has problems. */
export async function tree({ pool, json }: TreeConfig): Promise<number> {
  const found = await readTree(pool);
  process.stdout.write(`${json ? JSON.stringify(found, null, 2) : formatTree(found)}\n`);
  return found.problems.length > 0 ? 4 : 0;
}
