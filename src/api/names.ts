/** Names that outlive a release: users write them, other programs match them, and stored objects carry them. */

export const driverName = 'csi.lamina.storage';

/** The topology segment whose value is the name of the node that has a volume. */
export const nodeTopologyKey = 'topology.lamina.storage/node';

/** StorageClass parameters. */
export const parameterNames = {
  format: 'format',
  preallocation: 'preallocation',
  pool: 'pool',
  clusterSize: 'clusterSize',
  liveSnapshots: 'liveSnapshots',
  fsType: 'csi.storage.k8s.io/fstype',
} as const;

/** What external-provisioner adds with --extra-create-metadata: who asked, which changes nothing about the volume. */
export const provisionerMetadataNames = [
  'csi.storage.k8s.io/pvc/name',
  'csi.storage.k8s.io/pvc/namespace',
  'csi.storage.k8s.io/pv/name',
] as const;

/** What external-snapshotter adds with --extra-create-metadata. */
export const snapshotterMetadataNames = [
  'csi.storage.k8s.io/volumesnapshot/name',
  'csi.storage.k8s.io/volumesnapshot/namespace',
  'csi.storage.k8s.io/volumesnapshotcontent/name',
] as const;

/** Keys of a volume context that orchestrators own, added on the way to the node. */
export const orchestratorContextPrefixes = ['csi.storage.k8s.io/', 'storage.kubernetes.io/'] as const;

export const defaultPoolName = 'default';
