import type { ClusterConfig } from '../config/cluster.ts';
import { ApiClient } from '../kube/client/client.ts';
import type { Connection } from '../kube/client/connection.ts';
import { inClusterConnection } from '../kube/client/in-cluster.ts';
import { kubeconfigConnection } from '../kube/client/kubeconfig.ts';
import type { Clock } from '../lib/clock.ts';
import { LaminaError } from '../lib/errors.ts';

export interface Cluster {
  client: ApiClient;
  /** Where the objects of volumes are. */
  systemNamespace: string;
}

/**
 * A client of the API server that the configuration, or the pod's service account, names. Nothing is sent yet.
 *
 * @param userAgent `lamina/1.0.0 (node)`
 * @throws LaminaError `invalid-parameter` where neither does
 */
export async function connectCluster(config: ClusterConfig, userAgent: string, clock: Clock): Promise<Cluster> {
  const connection = await connectionOf(config, clock);
  const client = new ApiClient({ connection, clock, userAgent });
  return { client, systemNamespace: config.namespace ?? connection.namespace };
}

async function connectionOf({ kubeconfig, inCluster }: ClusterConfig, clock: Clock): Promise<Connection> {
  if (kubeconfig !== null) return kubeconfigConnection(kubeconfig, clock);
  if (inCluster) return inClusterConnection(inCluster, clock);
  throw new LaminaError(
    'invalid-parameter',
    'there is no API server to talk to: run in a pod with a service account, or give --kubeconfig',
  );
}
