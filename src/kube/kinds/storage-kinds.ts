import { z } from 'zod';
import { metadataSchema, persistentVolumeClaimType } from './core-kinds.ts';
import type { KubeObject } from '../objects.ts';
import type { ResourceType } from '../client/resource-type.ts';

/** What says how volumes are to be made, as much of it as is used; read by name where it is needed, and never kept. */

/** A snapshot as people declare it. Its definition is installed where there are snapshots at all. */
export interface VolumeSnapshot extends KubeObject {
  /** The VolumeSnapshotContent that it is bound to. */
  contentName: string | undefined;
}

const snapshotSchema = z.object({
  metadata: metadataSchema,
  status: z.object({ boundVolumeSnapshotContentName: z.string().nullish() }).nullish(),
});

export const volumeSnapshotType: ResourceType<VolumeSnapshot> = {
  group: 'snapshot.storage.k8s.io',
  version: 'v1',
  kind: 'VolumeSnapshot',
  plural: 'volumesnapshots',
  namespaced: true,
  parse: (json) => {
    const { metadata, status } = snapshotSchema.parse(json);
    return { metadata, contentName: status?.boundVolumeSnapshotContentName ?? undefined };
  },
};

/** What a claim asks for; read by name where a volume is made for it, and never kept. */
export interface ClaimWish extends KubeObject {
  accessModes: string[];
  isBlock: boolean;
  /** Quantities. */
  requests: string | undefined;
  limits: string | undefined;
  storageClassName: string | undefined;
  volumeAttributesClassName: string | undefined;
}

const claimWishSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    accessModes: z.array(z.string()),
    volumeMode: z.string().nullish(),
    resources: z
      .object({
        requests: z.record(z.string(), z.string()).nullish(),
        limits: z.record(z.string(), z.string()).nullish(),
      })
      .nullish(),
    storageClassName: z.string().nullish(),
    volumeAttributesClassName: z.string().nullish(),
  }),
});

export const claimWishType: ResourceType<ClaimWish> = {
  ...persistentVolumeClaimType,
  parse: (json) => {
    const { metadata, spec } = claimWishSchema.parse(json);
    return {
      metadata,
      accessModes: spec.accessModes,
      isBlock: spec.volumeMode === 'Block',
      requests: spec.resources?.requests?.['storage'],
      limits: spec.resources?.limits?.['storage'],
      storageClassName: spec.storageClassName || undefined,
      volumeAttributesClassName: spec.volumeAttributesClassName || undefined,
    };
  },
};

export interface StorageClass extends KubeObject {
  provisioner: string;
  parameters: Record<string, string>;
  reclaimPolicy: string;
  mountOptions: string[];
  /** Volumes are made when a pod needs them. */
  isLate: boolean;
  /** Where volumes may be: in one of the places, of which a volume has to fit all expressions. Empty for everywhere. */
  allowedTopologies: { matchLabelExpressions: { key: string; values: string[] }[] }[];
}

const storageClassSchema = z.object({
  metadata: metadataSchema,
  provisioner: z.string(),
  parameters: z.record(z.string(), z.string()).nullish(),
  reclaimPolicy: z.string().nullish(),
  mountOptions: z.array(z.string()).nullish(),
  volumeBindingMode: z.string().nullish(),
  allowedTopologies: z
    .array(
      z
        .object({
          matchLabelExpressions: z.array(z.object({ key: z.string(), values: z.array(z.string()) })).nullish(),
        })
        .transform(({ matchLabelExpressions }) => ({ matchLabelExpressions: matchLabelExpressions ?? [] })),
    )
    .nullish(),
});

export const storageClassType: ResourceType<StorageClass> = {
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'StorageClass',
  plural: 'storageclasses',
  namespaced: false,
  parse: (json) => {
    const { metadata, provisioner, parameters, reclaimPolicy, mountOptions, volumeBindingMode, allowedTopologies } =
      storageClassSchema.parse(json);
    return {
      metadata,
      provisioner,
      parameters: parameters ?? {},
      reclaimPolicy: reclaimPolicy ?? 'Delete',
      mountOptions: mountOptions ?? [],
      isLate: volumeBindingMode === 'WaitForFirstConsumer',
      allowedTopologies: allowedTopologies ?? [],
    };
  },
};

/** Parameters that can be changed while a volume lives. */
export interface VolumeAttributesClass extends KubeObject {
  driverName: string;
  parameters: Record<string, string>;
}

const attributesClassSchema = z.object({
  metadata: metadataSchema,
  driverName: z.string(),
  parameters: z.record(z.string(), z.string()).nullish(),
});

export const volumeAttributesClassType: ResourceType<VolumeAttributesClass> = {
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'VolumeAttributesClass',
  plural: 'volumeattributesclasses',
  namespaced: false,
  parse: (json) => {
    const { metadata, driverName, parameters } = attributesClassSchema.parse(json);
    return { metadata, driverName, parameters: parameters ?? {} };
  },
};
