import type { z } from 'zod';

export type KindName = 'DiskImage' | 'DiskSnapshot' | 'DiskPool';

/** A column of `kubectl get`. */
export interface Column {
  name: string;
  type: 'string' | 'integer' | 'date' | 'boolean';
  jsonPath: string;
  description: string;
  /** Only with `-o wide`. */
  wide?: true;
}

/** All that a CustomResourceDefinition says of a kind. */
export interface Kind<Spec extends z.ZodType = z.ZodType, Status extends z.ZodType = z.ZodType> {
  kind: KindName;
  plural: string;
  shortName: string;
  scope: 'Namespaced' | 'Cluster';
  /** For `kubectl explain`. */
  description: string;
  spec: Spec;
  status: Status;
  /** Rules over all of an object, of whose metadata they see only the name. */
  rules: readonly { rule: string; message: string; fieldPath?: string }[];
  columns: readonly Column[];
  /** What lists and watches can select by, beside the name. */
  selectableFields: readonly string[];
}

export const readyColumns: readonly Column[] = [
  {
    name: 'Ready',
    type: 'string',
    jsonPath: '.status.conditions[?(@.type=="Ready")].status',
    description: 'Whether it can be used.',
  },
  {
    name: 'Status',
    type: 'string',
    jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
    description: 'Why it can be used, or cannot yet.',
  },
];

export const ageColumn: Column = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'Since when the object is there.',
};

export const messageColumn: Column = {
  name: 'Message',
  type: 'string',
  jsonPath: '.status.conditions[?(@.type=="Ready")].message',
  description: 'What stands in the way, and what to do.',
  wide: true,
};
