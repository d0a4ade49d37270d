import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'yaml';
import type { KindCluster } from '../e2e/kind-cluster.ts';
import type { Kubectl } from '../e2e/kubectl.ts';
import { root } from '../e2e/machine.ts';
import type { Driver } from './kind-volumes.ts';

const driverName = 'hostpath.csi.k8s.io';
const name = 'host-path';
const socketDirectory = '/var/lib/kubelet/plugins/csi-hostpath';

/** Of the chart: both drivers have the same sidecars. */
type Sidecar = 'provisioner' | 'snapshotter' | 'registrar';
type Values = Record<Sidecar, { image: { repository: string; tag: string } }>;

/**
 * Installs csi-driver-host-path on one node of the cluster, where all its volumes are then.
 *
 * @param image of this machine's container engine, that runs the driver by its entry point
 */
export async function installHostPath(cluster: KindCluster, kubectl: Kubectl, image: string): Promise<Driver> {
  const [node] = cluster.workers;
  await cluster.load(image);
  const values = parse(await readFile(path.join(root, 'charts/lamina/values.yaml'), 'utf8')) as Values;
  const sidecar = (of: Sidecar, args: readonly string[], mounts: readonly object[] = []) => {
    const { repository, tag } = values[of].image;
    const volumeMounts = [{ name: 'socket', mountPath: '/csi' }, ...mounts];
    // As the driver, whose socket is that of a privileged process.
    const securityContext = { privileged: true };
    return {
      name: of,
      image: `${repository}:${tag}`,
      args: ['--csi-address=/csi/csi.sock', ...args],
      volumeMounts,
      securityContext,
    };
  };
  const plugin = {
    name: 'plugin',
    image,
    args: [`--drivername=${driverName}`, '--endpoint=unix:///csi/csi.sock', `--nodeid=${node}`],
    securityContext: { privileged: true },
    volumeMounts: [
      { name: 'socket', mountPath: '/csi' },
      { name: 'data', mountPath: '/csi-data-dir' },
      { name: 'kubelet', mountPath: '/var/lib/kubelet', mountPropagation: 'Bidirectional' },
    ],
  };
  const registration = [`--kubelet-registration-path=${socketDirectory}/csi.sock`];
  const hostPath = (volume: string, directory: string) => ({
    name: volume,
    hostPath: { path: directory, type: 'DirectoryOrCreate' },
  });
  await kubectl.apply(
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
      subjects: [{ kind: 'ServiceAccount', name, namespace: kubectl.namespace }],
    },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'CSIDriver',
      metadata: { name: driverName },
      spec: { attachRequired: false, podInfoOnMount: true },
    },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name },
      provisioner: driverName,
      volumeBindingMode: 'WaitForFirstConsumer',
    },
    {
      apiVersion: 'snapshot.storage.k8s.io/v1',
      kind: 'VolumeSnapshotClass',
      metadata: { name },
      driver: driverName,
      deletionPolicy: 'Delete',
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: {
        serviceAccountName: name,
        nodeSelector: { 'kubernetes.io/hostname': node },
        containers: [
          plugin,
          sidecar('registrar', registration, [{ name: 'registration', mountPath: '/registration' }]),
          sidecar('provisioner', ['--feature-gates=Topology=true']),
          sidecar('snapshotter', []),
        ],
        volumes: [
          hostPath('socket', socketDirectory),
          hostPath('data', '/var/lib/csi-hostpath-data'),
          hostPath('registration', '/var/lib/kubelet/plugins_registry'),
          hostPath('kubelet', '/var/lib/kubelet'),
        ],
      },
    },
  );
  await kubectl.untilReady(name);
  await kubectl.untilObject(
    'csinode',
    node,
    ({ spec }) => (spec.drivers as { name: string }[] | null)?.some((each) => each.name === driverName) === true,
  );
  return { who: 'host-path', storageClassName: name, volumeSnapshotClassName: name, node };
}
