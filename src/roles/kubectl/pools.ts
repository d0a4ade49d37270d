import { type DiskPool, diskPools } from '../../api/objects.ts';
import type { KubeClient } from '../../kube/client/client.ts';
import { findCondition } from '../../kube/conditions.ts';
import { ResourceClient } from '../../kube/client/resource-client.ts';
import { formatBytes } from '../../lib/bytes.ts';
import { formatBar, formatTable } from './text.ts';

const headings = ['NODE', 'POOL', 'STATUS', 'SPACE', 'FREE', 'TOTAL', 'PROMISED', 'DISKS', 'SNAPSHOTS', 'ORPHANS'];
const legend = '█ images  ▒ other files, and what is reserved  · free';

/** The pools of all nodes, with a bar for their space. */
export async function describePools(client: KubeClient): Promise<string> {
  const pools = await new ResourceClient(client, diskPools).list();
  if (pools.length === 0) return 'There is no DiskPool: no node plugin of Lamina has reported one yet.';
  pools.sort((a, b) => (rankOf(a) < rankOf(b) ? -1 : 1));
  const troubles = pools.flatMap((pool) =>
    pool.status.conditions
      .filter(({ status, reason }) => status !== 'True' || reason === 'BelowWarningMark')
      .map(({ type, reason, message }) => `${pool.metadata.name}: ${type}: ${reason}: ${message}`),
  );
  return [formatTable([headings, ...pools.map(rowOf)]), legend, ...troubles].join('\n');
}

function rankOf({ spec }: DiskPool): string {
  return `${spec.nodeName}/${spec.poolName}`;
}

function rowOf({ spec, status }: DiskPool): string[] {
  const { space } = status;
  return [
    spec.nodeName,
    spec.poolName,
    findCondition(status.conditions, 'Ready')?.reason ?? 'Unknown',
    space ? barOf(space) : '',
    space ? formatBytes(space.free) : '',
    space ? formatBytes(space.total) : '',
    space ? `${Math.round((space.provisioned / space.total) * 100)}%` : '',
    String(status.disks ?? ''),
    String(status.snapshots ?? ''),
    String(status.orphanCount ?? ''),
  ];
}

function barOf({ total, free, allocated }: NonNullable<DiskPool['status']['space']>): string {
  const images = Math.min(allocated, total - free);
  const parts = [
    { share: images / total, character: '█' },
    { share: (total - free - images) / total, character: '▒' },
  ];
  return formatBar(parts, 20);
}
