import { z } from 'zod';
import type { KubeObject } from '../../kube/objects.ts';
import type { ResourceType } from '../../kube/client/resource-type.ts';

/** What is looked at of Kubernetes' own kinds, to tell a person what a claim waits for. */

const metadataSchema = z.looseObject({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
  deletionTimestamp: z.string().optional(),
});

const claimSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    storageClassName: z.string().nullish(),
    volumeName: z.string().nullish(),
    resources: z.object({ requests: z.object({ storage: z.string().optional() }).nullish() }).nullish(),
  }),
  status: z.object({ phase: z.string().optional() }).nullish(),
});

const volumeSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({ csi: z.object({ driver: z.string(), volumeHandle: z.string() }).nullish() }),
});

const storageClassSchema = z.object({
  metadata: metadataSchema,
  provisioner: z.string(),
  volumeBindingMode: z.string().nullish(),
});

const podSchema = z.object({
  metadata: metadataSchema,
  spec: z.object({
    nodeName: z.string().nullish(),
    volumes: z
      .array(
        z.object({
          name: z.string(),
          persistentVolumeClaim: z.object({ claimName: z.string() }).nullish(),
          ephemeral: z.unknown().optional(),
        }),
      )
      .nullish(),
  }),
  status: z
    .object({
      phase: z.string().optional(),
      conditions: z.array(z.object({ type: z.string(), status: z.string(), message: z.string().nullish() })).nullish(),
    })
    .nullish(),
});

const eventSchema = z.object({
  metadata: metadataSchema.extend({ creationTimestamp: z.string().optional() }),
  type: z.string().nullish(),
  reason: z.string().nullish(),
  message: z.string().nullish(),
  count: z.number().nullish(),
  lastTimestamp: z.string().nullish(),
  eventTime: z.string().nullish(),
  series: z.object({ count: z.number(), lastObservedTime: z.string() }).nullish(),
});

export type Claim = z.infer<typeof claimSchema>;
export type Pod = z.infer<typeof podSchema>;
export type CoreEvent = z.infer<typeof eventSchema>;
export type StorageClass = z.infer<typeof storageClassSchema>;

const core = { group: '', version: 'v1', namespaced: true } as const;

export const claims = typeOf(claimSchema, { ...core, kind: 'PersistentVolumeClaim', plural: 'persistentvolumeclaims' });
export const pods = typeOf(podSchema, { ...core, kind: 'Pod', plural: 'pods' });
export const events = typeOf(eventSchema, { ...core, kind: 'Event', plural: 'events' });
export const volumes = typeOf(volumeSchema, {
  ...core,
  kind: 'PersistentVolume',
  plural: 'persistentvolumes',
  namespaced: false,
});
export const storageClasses = typeOf(storageClassSchema, {
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'StorageClass',
  plural: 'storageclasses',
  namespaced: false,
});

function typeOf<T extends KubeObject>(schema: z.ZodType<T>, names: Omit<ResourceType<T>, 'parse'>): ResourceType<T> {
  return { ...names, parse: (json) => schema.parse(json) };
}
