import { toolsImage } from './installation.ts';

interface ClaimOptions {
  name: string;
  storageClassName?: string;
  size?: string;
  accessModes?: string[];
  volumeMode?: 'Filesystem' | 'Block';
  volumeAttributesClassName?: string;
  dataSource?: { kind: 'VolumeSnapshot' | 'PersistentVolumeClaim'; name: string };
}

/** A PersistentVolumeClaim of the class that the chart makes. */
export function claim({ name, size = '1Gi', dataSource, ...spec }: ClaimOptions) {
  const apiGroup = dataSource?.kind === 'VolumeSnapshot' ? { apiGroup: 'snapshot.storage.k8s.io' } : {};
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name },
    spec: {
      storageClassName: 'lamina',
      accessModes: ['ReadWriteOnce'],
      ...spec,
      resources: { requests: { storage: size } },
      ...(dataSource ? { dataSource: { ...apiGroup, ...dataSource } } : {}),
    },
  };
}

interface PodOptions {
  name: string;
  /** Claims that it has below /data, by name; the first one at /data itself. Block ones are devices, /dev/data. */
  claim: string;
  block?: boolean;
  node?: string;
  /** A shell script that it runs; without one it waits to be told what to do. */
  script?: string;
}

/** A pod that has a claim's volume at /data, or as the device /dev/data. */
export function pod({ name, claim: claimName, block = false, node, script = 'sleep infinity' }: PodOptions) {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      terminationGracePeriodSeconds: 1,
      restartPolicy: 'Never',
      ...(node === undefined ? {} : { nodeSelector: { 'kubernetes.io/hostname': node } }),
      containers: [
        {
          name: 'main',
          image: toolsImage,
          command: ['bash', '-euc', script],
          ...(block
            ? { volumeDevices: [{ name: 'data', devicePath: '/dev/data' }] }
            : { volumeMounts: [{ name: 'data', mountPath: '/data' }] }),
        },
      ],
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }],
    },
  };
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
