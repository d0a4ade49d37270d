import { diskImages, diskPools, diskSnapshots } from '../../src/api/objects.ts';
import { ApiClient } from '../../src/kube/client/client.ts';
import { kubeconfigConnection } from '../../src/kube/client/kubeconfig.ts';
import type { KubeObject } from '../../src/kube/objects.ts';
import { ResourceClient } from '../../src/kube/client/resource-client.ts';
import type { ResourceType } from '../../src/kube/client/resource-type.ts';
import { systemClock } from '../../src/lib/clock.ts';
import * as kinds from './kinds.ts';

export type DiskImage = ReturnType<typeof diskImages.parse>;

/** A control plane as its administrator sees it. */
export type Kube = Awaited<ReturnType<typeof connectKube>>;

export async function connectKube(kubeconfig: string) {
  const connection = await kubeconfigConnection(kubeconfig, systemClock);
  const client = new ApiClient({ connection, clock: systemClock, userAgent: 'lamina/test' });
  const of = <T extends KubeObject>(type: ResourceType<T>) => new ResourceClient(client, type);
  return {
    client,
    of,
    claims: of(kinds.claims),
    volumes: of(kinds.volumes),
    pods: of(kinds.pods),
    events: of(kinds.events),
    nodes: of(kinds.nodes),
    snapshots: of(kinds.volumeSnapshots),
    contents: of(kinds.snapshotContents),
    capacities: of(kinds.storageCapacities),
    leases: of(kinds.leases),
    diskImages: of(diskImages),
    diskSnapshots: of(diskSnapshots),
    diskPools: of(diskPools),
    /** Whether it answers, and has taken up its work. */
    isReady: async () => {
      const answer = await client
        .open({ method: 'GET', path: '/readyz', signal: AbortSignal.timeout(5000) })
        .catch(() => null);
      answer?.resume();
      return answer !== null;
    },
    /** How many requests changed objects, or tried to, by verb and resource, and the code of those that were refused; leases, which are renewed all the time, are left out. */
    writes: async () => countWrites(await readText(client, '/metrics')),
    close: () => client.close(),
  };
}

async function readText(client: ApiClient, path: string): Promise<string> {
  const answer = await client.open({ method: 'GET', path, signal: AbortSignal.timeout(30_000) });
  return Buffer.concat(await answer.toArray()).toString('utf8');
}

/** What those who are elected and the node plugins renew to show that they are alive, and what the API server does for the Service it has itself. */
const notOurs = ['leases', 'endpoints', 'endpointslices'];

function countWrites(metrics: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [, labels = '', value] of metrics.matchAll(/^apiserver_request_total\{(.*)\} (\S+)$/gm)) {
    const {
      verb = '',
      group,
      resource,
      subresource,
      code = '',
    } = Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, text]) => [name, text])) as Record<
      string,
      string
    >;
    if (!['POST', 'PUT', 'PATCH', 'APPLY', 'DELETE'].includes(verb) || notOurs.includes(resource ?? '')) continue;
    const refused = code.startsWith('2') ? [] : [`refused with ${code}`];
    const what = [verb, [resource, group, subresource].filter(Boolean).join('.'), ...refused].join(' ');
    counts.set(what, (counts.get(what) ?? 0) + Number(value));
  }
  return counts;
}
