import { z } from 'zod';
import type { KubeObject } from './objects.ts';
import type { ResourceType } from './resource-type.ts';

/** Kubernetes' own kinds, as much of them as is used: what is not, would be kept in memory for each object there is. */

const metadataSchema = z.object({
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
