import { driverName, parameterNames } from '../../src/api/names.ts';
import type { Manifest } from '../../src/kube/objects.ts';
import type { ResourceType } from '../../src/kube/client/resource-type.ts';
import * as kinds from './kinds.ts';

export const systemNamespace = 'lamina-system';
/** Where the stories are told. */
export const userNamespace = 'stories';

type Installed = [ResourceType<{ metadata: { name: string } }>, Manifest & Record<string, unknown>];

/** StorageClasses of the stories, by name: all wait for the first consumer but `immediate`. */
export const storageClasses = {
  thin: {},
  immediate: { volumeBindingMode: 'Immediate' },
  // Not ext4: growing a mounted one takes CAP_SYS_RESOURCE, which not every machine gives its root.
  xfs: { parameters: { [parameterNames.fsType]: 'xfs' } },
  raw: { parameters: { format: 'raw', preallocation: 'falloc' } },
  // Only one of the nodes has a pool of that name.
  second: { parameters: { pool: 'second' } },
} as const;
export type StorageClassName = keyof typeof storageClasses;

/** What an administrator installs beside the roles. */
export function installation(): Installed[] {
  return [
    [kinds.namespaces, { metadata: { name: systemNamespace } }],
    [kinds.namespaces, { metadata: { name: userNamespace } }],
    [
      kinds.drivers,
      {
        metadata: { name: driverName },
        spec: {
          attachRequired: false,
          storageCapacity: true,
          fsGroupPolicy: 'File',
          seLinuxMount: true,
          volumeLifecycleModes: ['Persistent'],
        },
      },
    ],
    [kinds.snapshotClasses, { metadata: { name: 'lamina' }, driver: driverName, deletionPolicy: 'Delete' }],
    ...Object.entries(storageClasses).map(([name, own]): Installed => {
      const common = { provisioner: driverName, allowVolumeExpansion: true, volumeBindingMode: 'WaitForFirstConsumer' };
      return [kinds.storageClasses, { metadata: { name }, ...common, ...own }];
    }),
  ];
}

export interface ClaimOptions {
  name: string;
  storageClassName?: StorageClassName;
  size?: string;
  accessModes?: string[];
  volumeMode?: 'Filesystem' | 'Block';
  volumeAttributesClassName?: string;
  /** What it starts from. */
  dataSource?: { kind: 'VolumeSnapshot' | 'PersistentVolumeClaim'; name: string };
}

export function claim(namespace: string, { name, size = '64Mi', ...spec }: ClaimOptions) {
  return { metadata: { name, namespace }, spec: claimSpec({ storageClassName: 'thin', size, ...spec }) };
}

/** The spec of a PersistentVolumeClaim for one node, unless other access modes are given. */
export function claimSpec<Spec extends Pick<ClaimOptions, 'dataSource'> & { size: string }>({
  size,
  dataSource,
  ...spec
}: Spec) {
  const apiGroup = dataSource?.kind === 'VolumeSnapshot' ? { apiGroup: 'snapshot.storage.k8s.io' } : {};
  return {
    accessModes: ['ReadWriteOnce'],
    ...spec,
    resources: { requests: { storage: size } },
    ...(dataSource ? { dataSource: { ...apiGroup, ...dataSource } } : {}),
  };
}

export interface PodOptions {
  name: string;
  /** Names of claims that it uses. */
  claims?: string[];
  /** The node that it must run on. */
  node?: string;
  /** The node that it runs on rather than on others. */
  preferredNode?: string;
  /** A claim that is made with it, and goes with it. */
  ephemeral?: ReturnType<typeof claim>['spec'];
  labels?: Record<string, string>;
}

export function pod(namespace: string, { name, claims = [], node, preferredNode, ephemeral, labels = {} }: PodOptions) {
  const volumes = claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } }));
  const made = ephemeral ? [{ name: 'scratch', ephemeral: { volumeClaimTemplate: { spec: ephemeral } } }] : [];
  const isOn = (host: string) => ({
    matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [host] }],
  });
  const affinity = preferredNode && {
    nodeAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, preference: isOn(preferredNode) }],
    },
  };
  return {
    metadata: { name, namespace, labels },
    spec: {
      containers: [{ name: 'main', image: 'nothing' }],
      // It never runs, so that nothing would wait for its end.
      terminationGracePeriodSeconds: 0,
      ...(node ? { nodeSelector: { 'kubernetes.io/hostname': node } } : {}),
      ...(affinity ? { affinity } : {}),
      volumes: [...volumes, ...made],
    },
  };
}
