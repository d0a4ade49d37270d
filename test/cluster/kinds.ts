import type { KubeObject } from '../../src/kube/objects.ts';
import type { ResourceType } from '../../src/kube/client/resource-type.ts';

/** Kinds of Kubernetes and of its snapshot API, with the fields that the stories look at. */

interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
}

export interface Claim extends KubeObject {
  spec: { volumeName?: string; volumeMode?: 'Filesystem' | 'Block' };
  status?: {
    phase?: string;
    capacity?: { storage: string };
    conditions?: Condition[];
    currentVolumeAttributesClassName?: string;
  };
}

export interface Volume extends KubeObject {
  spec: {
    capacity: { storage: string };
    accessModes: string[];
    volumeMode?: 'Filesystem' | 'Block';
    mountOptions?: string[];
    claimRef?: { namespace: string; name: string };
    csi?: { driver: string; volumeHandle: string; fsType?: string; volumeAttributes?: Record<string, string> };
    nodeAffinity?: { required: { nodeSelectorTerms: { matchExpressions: { key: string; values: string[] }[] }[] } };
  };
  status?: { phase?: string };
}

export interface Pod extends KubeObject {
  spec: { nodeName?: string };
  status?: { conditions?: Condition[] };
}

export interface VolumeSnapshot extends KubeObject {
  status?: { readyToUse?: boolean; restoreSize?: string; boundVolumeSnapshotContentName?: string; error?: object };
}

export interface SnapshotContent extends KubeObject {
  spec: { driver: string };
  status?: { snapshotHandle?: string };
}

export interface StorageCapacity extends KubeObject {
  storageClassName: string;
  capacity?: string;
  maximumVolumeSize?: string;
  nodeTopology?: { matchLabels?: Record<string, string> };
}

export interface Lease extends KubeObject {
  spec: { holderIdentity?: string };
}

export interface Event extends KubeObject {
  type: string;
  reason: string;
  message?: string;
  involvedObject: { kind: string; namespace?: string; name: string };
}

const core = 'v1';
const storage = 'storage.k8s.io/v1';
const snapshot = 'snapshot.storage.k8s.io/v1';
const access = 'rbac.authorization.k8s.io/v1';

export const claims = namespaced<Claim>(core, 'PersistentVolumeClaim', 'persistentvolumeclaims');
export const volumes = clusterWide<Volume>(core, 'PersistentVolume', 'persistentvolumes');
export const pods = namespaced<Pod>(core, 'Pod', 'pods');
export const events = namespaced<Event>(core, 'Event', 'events');
export const nodes = clusterWide(core, 'Node', 'nodes');
export const namespaces = clusterWide(core, 'Namespace', 'namespaces');
export const serviceAccounts = namespaced(core, 'ServiceAccount', 'serviceaccounts');
export const clusterRoles = clusterWide(access, 'ClusterRole', 'clusterroles');
export const clusterRoleBindings = clusterWide(access, 'ClusterRoleBinding', 'clusterrolebindings');
export const roles = namespaced(access, 'Role', 'roles');
export const roleBindings = namespaced(access, 'RoleBinding', 'rolebindings');
export const storageClasses = clusterWide(storage, 'StorageClass', 'storageclasses');
export const attributesClasses = clusterWide(storage, 'VolumeAttributesClass', 'volumeattributesclasses');
export const drivers = clusterWide(storage, 'CSIDriver', 'csidrivers');
export const csiNodes = clusterWide(storage, 'CSINode', 'csinodes');
export const storageCapacities = namespaced<StorageCapacity>(storage, 'CSIStorageCapacity', 'csistoragecapacities');
export const snapshotClasses = clusterWide(snapshot, 'VolumeSnapshotClass', 'volumesnapshotclasses');
export const volumeSnapshots = namespaced<VolumeSnapshot>(snapshot, 'VolumeSnapshot', 'volumesnapshots');
export const snapshotContents = clusterWide<SnapshotContent>(
  snapshot,
  'VolumeSnapshotContent',
  'volumesnapshotcontents',
);
export const leases = namespaced<Lease>('coordination.k8s.io/v1', 'Lease', 'leases');
export const definitions = clusterWide(
  'apiextensions.k8s.io/v1',
  'CustomResourceDefinition',
  'customresourcedefinitions',
);

function namespaced<T extends KubeObject>(apiVersion: string, kind: string, plural: string): ResourceType<T> {
  return { ...clusterWide<T>(apiVersion, kind, plural), namespaced: true };
}

function clusterWide<T extends KubeObject>(apiVersion: string, kind: string, plural: string): ResourceType<T> {
  const [version = '', group = ''] = apiVersion.split('/').toReversed();
  // What the API server holds it has checked.
  return { group, version, kind, plural, namespaced: false, parse: (json) => json as T };
}
