import { Option } from 'commander';

/** Which API server, as whom, and where objects of the system are. */
export interface ClusterConfig {
  /** A file; null for the service account of the pod. */
  kubeconfig: string | null;
  /** As kubelet tells a pod where the API server is. */
  inCluster: { host: string; port: string } | null;
  /** Null for the one of the service account or of the kubeconfig's context. */
  namespace: string | null;
}

export const kubeconfigOption = () =>
  new Option('--kubeconfig <file>', "how to reach the API server; the pod's service account unless given");

export const namespaceOption = () =>
  new Option('--namespace <name>', 'where the objects of volumes are; its own unless given');

export function inClusterOf(environment: NodeJS.ProcessEnv): ClusterConfig['inCluster'] {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment;
  return host && port ? { host, port } : null;
}
