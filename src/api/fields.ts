import * as z from 'zod';
import { parseQuantity } from '../lib/quantity.ts';
import { withRules } from './rule.ts';

/** A name of an object, of a node for one. */
export const subdomain = z
  .string()
  .min(1)
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/);

const label = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);

export const namespaceName = label;
export const poolName = label;

/** How a disk is kept on its node. */
export const diskFormats = ['qcow2', 'raw'] as const;

/** Whole numbers of things, never negative. */
export const count = z.int().min(0);

export const timestamp = z.iso.datetime();

export const digest = z
  .string()
  .max(71)
  .regex(/^sha256:[0-9a-f]{64}$/);

/** Text for a person. */
export const text = z.string().max(1024);

/**
 * Text of a form that people get wrong, so that it is refused with a sentence rather than with the pattern.
 *
 * @param pattern without single quotes, and in the syntax that Go shares
 */
export function patternedText(of: { description: string; maxLength: number; pattern: RegExp; message: string }) {
  const { description, maxLength, pattern, message } = of;
  return z
    .string()
    .max(maxLength)
    .refine((value) => pattern.test(value), message)
    .meta({ description, ...withRules({ rule: `self.matches(r'${goPattern(pattern)}')`, message }) });
}

/** JavaScript escapes the slash in regular expressions, which ends them there. */
function goPattern({ source }: RegExp): string {
  return source.replaceAll('\\/', '/');
}

function bytesOf(value: string | number, context: z.RefinementCtx): number {
  const bytes = parseQuantity(String(value));
  if (bytes !== undefined) return bytes;
  context.addIssue({ code: 'custom', message: `'${value}' is no quantity such as 10Gi` });
  return z.NEVER;
}

/** A size that people write: `10Gi`, `1.5G`, `1073741824`. Bytes once parsed. The API server checks it by rules only. */
export function quantityField(meta: Record<string, unknown>) {
  return z
    .union([z.int(), z.string()])
    .meta({ 'x-kubernetes-int-or-string': true, maxLength: 32, ...meta })
    .transform(bytesOf);
}

/** What we write. What people write may be any of Kubernetes' forms. */
export const quantityPattern = /^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi)?$/;

/** A size that we write. Bytes once parsed. */
export function quantityReport(description: string) {
  return z.string().max(32).regex(quantityPattern).meta({ description }).transform(bytesOf);
}

const conditionSchema = z
  .object({
    type: z.string().min(1).max(63).meta({ description: 'What the condition is about.' }),
    status: z.enum(['True', 'False', 'Unknown']).meta({ description: 'Whether it holds.' }),
    reason: z
      .string()
      .min(1)
      .max(63)
      .regex(/^[A-Z][A-Za-z0-9]*$/)
      .meta({ description: 'Why it holds or does not, as one word for programs; docs/users/api.md lists them.' }),
    message: z.string().max(4096).meta({ description: 'Why it holds or does not, and what to do, for people.' }),
    lastTransitionTime: timestamp.meta({ description: 'When the status changed last.' }),
    observedGeneration: count.optional().meta({ description: 'The metadata.generation that the condition is about.' }),
  })
  .meta({ description: 'One aspect of the state.' });

/** An empty list where there is none. */
export const conditionsField = z
  .array(conditionSchema)
  .max(16)
  .meta({
    description: 'The state, one condition for each aspect of it.',
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['type'],
  })
  .optional()
  .transform((conditions) => conditions ?? []);

/** What is used of the metadata of objects. */
export const metadataSchema = z.object({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string(),
  resourceVersion: z.string(),
  generation: z.int(),
  creationTimestamp: timestamp,
  deletionTimestamp: timestamp.optional(),
  labels: z.record(z.string(), z.string()).default({}),
  annotations: z.record(z.string(), z.string()).default({}),
  finalizers: z.array(z.string()).default([]),
  ownerReferences: z
    .array(
      z.object({
        apiVersion: z.string(),
        kind: z.string(),
        name: z.string(),
        uid: z.string(),
        controller: z.boolean().optional(),
        blockOwnerDeletion: z.boolean().optional(),
      }),
    )
    .default([]),
});
