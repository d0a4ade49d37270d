import { diskPoolName } from '../../api/names.ts';
import type { DiskPool } from '../../api/objects.ts';
import type { ResourceClient } from '../../kube/client/resource-client.ts';
import { memberName } from '../../transfer/identity/identity-names.ts';
import type { Elsewhere } from '../../transfer/users/user-server.ts';

/** Where a node gives what a pool of it holds to people. */
export async function exportAddressOf(
  pools: ResourceClient<DiskPool>,
  { nodeName, poolName }: { nodeName: string; poolName: string },
  signal: AbortSignal,
): Promise<Elsewhere> {
  const pool = await pools.get({ name: diskPoolName(poolName, nodeName) }, { signal });
  return { nodeName, address: pool?.status.export?.address ?? null, serverName: memberName('node', nodeName) };
}
