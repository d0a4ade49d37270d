import { z } from 'zod';
import type { KubeObject } from '../objects.ts';
import type { ResourceType } from '../client/resource-type.ts';

/** Kubernetes' own kinds, as much of them as is used: what is not, would be kept in memory for each object there is. */

export const metadataSchema = z.object({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string(),
  resourceVersion: z.string(),
  deletionTimestamp: z.string().optional(),
});

const conditionsSchema = z.array(z.object({ type: z.string(), status: z.string() })).nullish();

const nodeSchema = z.object({
  metadata: metadataSchema.extend({ labels: z.record(z.string(), z.string()).optional() }),
  status: z.object({ conditions: conditionsSchema }).nullish(),
});

export interface Node extends KubeObject {
  /** As kubelet says, or the cluster of a kubelet that is silent; true where nobody says anything. */
  isReady: boolean;
}

export const nodeType: ResourceType<Node> = {
  group: '',
  version: 'v1',
  kind: 'Node',
  plural: 'nodes',
  namespaced: false,
  parse: (json) => {
    const { metadata, status } = nodeSchema.parse(json);
    const ready = status?.conditions?.find(({ type }) => type === 'Ready');
    return { metadata, isReady: ready === undefined || ready.status === 'True' };
  },
};

const claimRefSchema = z.object({ namespace: z.string(), name: z.string(), uid: z.string().optional() }).nullish();

const volumeSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    csi: z.object({ driver: z.string(), volumeHandle: z.string() }).nullish(),
    claimRef: claimRefSchema,
  }),
});

export interface PersistentVolume extends KubeObject {
  /** Undefined where it is no CSI volume. */
  csi: { driver: string; volumeHandle: string } | undefined;
  /** The claim that has it. */
  claim: { namespace: string; name: string; uid?: string | undefined } | undefined;
}

export const persistentVolumeType: ResourceType<PersistentVolume> = {
  group: '',
  version: 'v1',
  kind: 'PersistentVolume',
  plural: 'persistentvolumes',
  namespaced: false,
  parse: (json) => {
    const { metadata, spec } = volumeSchema.parse(json);
    return { metadata, csi: spec.csi ?? undefined, claim: spec.claimRef ?? undefined };
  },
};

const namedSchema = z.object({ metadata: metadataSchema });

/** On a claim that waits for its first consumer: the node that the scheduler has chosen for the pod. */
export const selectedNodeAnnotation = 'volume.kubernetes.io/selected-node';

export interface PersistentVolumeClaim extends KubeObject {
  /** Where the claim waits for its first consumer: the node that the scheduler has chosen for the pod. */
  selectedNode: string | undefined;
  /** The PersistentVolume that it is bound to, or is to be. */
  volumeName: string | undefined;
  /** What the volume is to start from, where that is neither a volume nor a snapshot. */
  populator: { apiGroup: string; kind: string; name: string; namespace: string | undefined } | undefined;
}

const sourceRefSchema = z.object({
  apiGroup: z.string().nullish(),
  kind: z.string(),
  name: z.string(),
  namespace: z.string().nullish(),
});

const claimSchema = z.object({
  metadata: metadataSchema.extend({ annotations: z.record(z.string(), z.string()).optional() }),
  spec: z.object({ volumeName: z.string().nullish(), dataSourceRef: sourceRefSchema.nullish() }).nullish(),
});

export const persistentVolumeClaimType: ResourceType<PersistentVolumeClaim> = {
  group: '',
  version: 'v1',
  kind: 'PersistentVolumeClaim',
  plural: 'persistentvolumeclaims',
  namespaced: true,
  // Annotations can be long, and nothing else is asked of them.
  parse: (json) => {
    const { metadata: whole, spec } = claimSchema.parse(json);
    const { annotations, ...metadata } = whole;
    return {
      metadata,
      selectedNode: annotations?.[selectedNodeAnnotation],
      volumeName: spec?.volumeName || undefined,
      populator: populatorOf(spec?.dataSourceRef),
    };
  },
};

const builtInSources = ['PersistentVolumeClaim', 'VolumeSnapshot'];

function populatorOf(ref: z.output<typeof sourceRefSchema> | null | undefined): PersistentVolumeClaim['populator'] {
  if (!ref || builtInSources.includes(ref.kind)) return undefined;
  const { apiGroup, kind, name, namespace } = ref;
  return { apiGroup: apiGroup ?? '', kind, name, namespace: namespace ?? undefined };
}

/** What only names texts: Secrets and ConfigMaps. Read by name, and never kept. */
export interface Secret extends KubeObject {
  data: Record<string, string>;
}
export type ConfigMap = Secret;

const textsSchema = z.object({ metadata: metadataSchema, data: z.record(z.string(), z.string()).nullish() });

export const secretType: ResourceType<Secret> = {
  group: '',
  version: 'v1',
  kind: 'Secret',
  plural: 'secrets',
  namespaced: true,
  parse: (json) => {
    const { metadata, data } = textsSchema.parse(json);
    const decoded = Object.entries(data ?? {}).map(([name, text]) => [name, Buffer.from(text, 'base64').toString()]);
    return { metadata, data: Object.fromEntries(decoded) as Record<string, string> };
  },
};

export const configMapType: ResourceType<ConfigMap> = {
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  namespaced: true,
  parse: (json) => {
    const { metadata, data } = textsSchema.parse(json);
    return { metadata, data: data ?? {} };
  },
};

export const namespaceType: ResourceType<KubeObject> = {
  group: '',
  version: 'v1',
  kind: 'Namespace',
  plural: 'namespaces',
  namespaced: false,
  parse: (json) => namedSchema.parse(json),
};

const contentSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    driver: z.string(),
    source: z.object({ snapshotHandle: z.string().nullish() }),
    volumeSnapshotRef: z.object({
      namespace: z.string().nullish(),
      name: z.string().nullish(),
      uid: z.string().nullish(),
    }),
  }),
  status: z.object({ snapshotHandle: z.string().nullish() }).nullish(),
});

/** What stands for a snapshot, in the cluster. Its definition is installed where there are snapshots at all. */
export interface VolumeSnapshotContent extends KubeObject {
  driver: string;
  /** Undefined while the snapshot is not taken. */
  snapshotHandle: string | undefined;
  /** The VolumeSnapshot that it is for. */
  snapshot: { namespace: string; name: string; uid: string | undefined };
}

export const volumeSnapshotContentType: ResourceType<VolumeSnapshotContent> = {
  group: 'snapshot.storage.k8s.io',
  version: 'v1',
  kind: 'VolumeSnapshotContent',
  plural: 'volumesnapshotcontents',
  namespaced: false,
  parse: (json) => {
    const { metadata, spec, status } = contentSchema.parse(json);
    const { namespace, name, uid } = spec.volumeSnapshotRef;
    return {
      metadata,
      driver: spec.driver,
      snapshotHandle: status?.snapshotHandle ?? spec.source.snapshotHandle ?? undefined,
      snapshot: { namespace: namespace ?? '', name: name ?? '', uid: uid ?? undefined },
    };
  },
};
