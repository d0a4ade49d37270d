import * as cluster from '../cluster/objects.ts';

/** What the pods of the stories run. */
export const toolsImage = 'docker.io/library/lamina-e2e-tools:4';

type ClaimOptions = Omit<cluster.ClaimOptions, 'storageClassName'> & {
  storageClassName?: string;
  /** The DiskImage that it starts from. */
  image?: string;
};

/** A PersistentVolumeClaim of the class that the chart makes. */
export function claim({ name, size = '1Gi', image, ...spec }: ClaimOptions) {
  const dataSourceRef = { apiGroup: 'lamina.storage', kind: 'DiskImage', name: image };
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name },
    spec: {
      ...cluster.claimSpec({ storageClassName: 'lamina', size, ...spec }),
      ...(image === undefined ? {} : { dataSourceRef }),
    },
  };
}

interface PodOptions {
  name: string;
  /** The claim that it uses; left out, it has no volume. */
  claim?: string;
  /** Whether the claim's volume is a block device. */
  block?: boolean;
  node?: string;
  /** What it runs instead of the tools. */
  image?: string;
  /** A shell script that it runs; without one it waits to be told what to do. */
  script?: string;
}

/** A pod that has a claim's volume at /data, or as the device /dev/data. */
export function pod({
  name,
  claim: claimName,
  block = false,
  node,
  image = toolsImage,
  script = 'sleep infinity',
}: PodOptions) {
  const mount = block
    ? { volumeDevices: [{ name: 'data', devicePath: '/dev/data' }] }
    : { volumeMounts: [{ name: 'data', mountPath: '/data' }] };
  const hasVolume = claimName !== undefined;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      terminationGracePeriodSeconds: 1,
      restartPolicy: 'Never',
      ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
      containers: [{ name: 'main', image, command: ['bash', '-euc', script], ...(hasVolume ? mount : {}) }],
      volumes: hasVolume ? [{ name: 'data', persistentVolumeClaim: { claimName } }] : [],
    },
  };
}

interface StatefulSetOptions {
  name: string;
  replicas: number;
  script: string;
  /** What the volume of each replica, at /data, is made by. */
  claim: ReturnType<typeof claim>;
}

/** A StatefulSet whose pods are spread over the nodes. */
export function statefulSet({ name, replicas, script, claim: { spec } }: StatefulSetOptions) {
  const matchLabels = { app: name };
  const spread = {
    maxSkew: 1,
    topologyKey: 'kubernetes.io/hostname',
    whenUnsatisfiable: 'DoNotSchedule',
    // The control plane takes none.
    nodeTaintsPolicy: 'Honor',
    labelSelector: { matchLabels },
  };
  const container = {
    name: 'main',
    image: toolsImage,
    command: ['bash', '-euc', script],
    volumeMounts: [{ name: 'data', mountPath: '/data' }],
  };
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name },
    spec: {
      replicas,
      serviceName: name,
      podManagementPolicy: 'Parallel',
      selector: { matchLabels },
      template: {
        metadata: { labels: matchLabels },
        spec: { terminationGracePeriodSeconds: 1, topologySpreadConstraints: [spread], containers: [container] },
      },
      volumeClaimTemplates: [{ metadata: { name: 'data' }, spec }],
    },
  };
}

/** Lets imports read the Secrets and ConfigMaps of the namespace that it is in. */
export const importRights = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'RoleBinding',
  metadata: { name: 'lamina-import' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'lamina-import' },
  subjects: [{ kind: 'ServiceAccount', name: 'lamina-node', namespace: cluster.systemNamespace }],
};

export function diskImage(name: string, spec: object) {
  return { apiVersion: 'lamina.storage/v1alpha1', kind: 'DiskImage', metadata: { name }, spec };
}

/** A VolumeSnapshot of a claim's volume. */
export function snapshot(name: string, persistentVolumeClaimName: string) {
  return {
    apiVersion: 'snapshot.storage.k8s.io/v1',
    kind: 'VolumeSnapshot',
    metadata: { name },
    spec: { volumeSnapshotClassName: 'lamina', source: { persistentVolumeClaimName } },
  };
}
