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
  transfer: 'transfer',
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

/** Who signs the certificates by which nodes know each other. */
export const transferSignerName = 'lamina.storage/transfer';

export const defaultPoolName = 'default';

export const apiGroup = 'lamina.storage';
export const apiVersion = 'v1alpha1';
export const groupVersion = `${apiGroup}/${apiVersion}` as const;

/**
 * Which state of the definitions in crds/ the program relies on, written into each of them. Raise it with every change
 * of a schema that the program does not work without, so that it can say at start that older ones are installed.
 */
export const schemaVersion = 3;

/** What an object waits for before it goes. */
export const finalizers = {
  disk: 'lamina.storage/disk',
  snapshot: 'lamina.storage/snapshot',
} as const;

export const annotations = {
  schemaVersion: 'lamina.storage/schema-version',
  csiName: 'lamina.storage/csi-name',
  claim: 'lamina.storage/claim',
  takeOver: 'lamina.storage/take-over',
  adopted: 'lamina.storage/adopted',
  claimedBy: 'lamina.storage/claimed-by',
  takenFor: 'lamina.storage/taken-for',
} as const;

/** Of the Leases of the node plugins, so that nobody who looks at these is told of all others. */
export const nodeLeaseLabels = { 'lamina.storage/lease': 'node' } as const;

/** Who owns which fields with server-side apply; another name would leave the old one's fields behind. */
export const fieldManagers = {
  controller: 'lamina-controller',
  node: 'lamina-node',
} as const;

/** One sentence for each name that people meet on objects. */
export const nameMeanings: Record<string, string> = {
  [finalizers.disk]: 'On a DiskImage whose disk is in a pool, or may be: the object goes when the disk is gone.',
  [finalizers.snapshot]: 'On a DiskSnapshot that is in a pool, or may be: the object goes when the snapshot is gone.',
  [annotations.schemaVersion]:
    'On the CustomResourceDefinitions: the state of the schemas, which the program checks at start.',
  [annotations.csiName]:
    'On a DiskImage or DiskSnapshot that CSI asked for: the name it was asked for by, of which its own is derived.',
  [annotations.claim]:
    'On a DiskImage that is a volume: `namespace/name` of the PersistentVolumeClaim it was made for.',
  [annotations.takeOver]:
    'On a DiskPool: the id of the pool that is to be served, set by an administrator where it was another cluster’s, or takes the place of the one that the node had there.',
  [annotations.adopted]:
    'On a DiskImage or DiskSnapshot that the controller declared again for what a pool held without an object: when. Nothing is made for it where the pool does not hold it, and it is never deleted for want of a claim.',
  [annotations.claimedBy]:
    'On a DiskImage or DiskSnapshot that CSI asked for: what has used it first, such as a PersistentVolume. From then on only people and CSI delete it.',
  [annotations.takenFor]:
    'On a DiskSnapshot that the controller declared so that a DiskImage can start from it on another node: `namespace/name` of that. It goes when the DiskImage is made.',
  'lamina.storage/lease':
    'On the Leases in the namespace of the system that node plugins renew, each the one of its node: `node`.',
  [nodeTopologyKey]: 'On nodes and PersistentVolumes, as topology: the node that has a volume.',
};

/** The name of the one DiskPool of a pool on a node. */
export function diskPoolName(poolName: string, nodeName: string): string {
  return `${poolName}.${nodeName}`;
}

/** The name of the Lease, in the namespace of the system, by which a node plugin shows that it is alive. */
export function nodeLeaseName(nodeName: string): string {
  return `lamina-node.${nodeName}`;
}
