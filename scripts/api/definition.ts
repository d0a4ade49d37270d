import { z } from 'zod';
import type { Column, Kind } from '../../src/api/kind.ts';
import { definitionName } from '../../src/api/kinds.ts';
import { annotations, apiGroup, apiVersion, schemaVersion } from '../../src/api/names.ts';

/** What is used of OpenAPI in the schema of a CustomResourceDefinition, which has to be structural. */
export interface Schema {
  type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean';
  format?: string;
  description?: string;
  default?: unknown;
  enum?: string[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-list-type'?: string;
  'x-kubernetes-list-map-keys'?: string[];
  'x-kubernetes-validations'?: { rule: string; message: string; fieldPath?: string }[];
}

/** The CustomResourceDefinition of a kind. */
export function definitionOf(kind: Kind) {
  const { kind: name, plural } = kind;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: definitionName(kind),
      annotations: { [annotations.schemaVersion]: String(schemaVersion) },
    },
    spec: {
      group: apiGroup,
      names: {
        kind: name,
        listKind: `${name}List`,
        plural,
        singular: name.toLowerCase(),
        shortNames: [kind.shortName],
        categories: ['lamina'],
      },
      scope: kind.scope,
      versions: [
        {
          name: apiVersion,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: kind.columns.map(printerColumn),
          selectableFields: kind.selectableFields.map((jsonPath) => ({ jsonPath })),
          schema: { openAPIV3Schema: rootSchema(kind) },
        },
      ],
    },
  };
}

/** `apiVersion`, `kind` and `metadata` are described by the API server itself. */
function rootSchema({ description, spec, status, rules }: Kind): Schema {
  return {
    type: 'object',
    description,
    required: ['spec'],
    properties: { spec: structuralSchema(spec), status: structuralSchema(status) },
    ...(rules.length > 0 ? { 'x-kubernetes-validations': [...rules] } : {}),
  };
}

function printerColumn({ name, type, jsonPath, description, wide }: Column) {
  // Columns of a priority above 0 are shown with -o wide only.
  return { name, type, jsonPath, description, ...(wide ? { priority: 1 } : {}) };
}

/** What a client may send, as the API server understands it. */
function structuralSchema(schema: z.ZodType): Schema {
  const json = z.toJSONSchema(schema, {
    target: 'openapi-3.0',
    io: 'input',
    override: ({ jsonSchema }) => adapt(jsonSchema as Schema),
  });
  return json as Schema;
}

function adapt(schema: Schema & { propertyNames?: unknown }): void {
  // Names of properties cannot be checked in a structural schema.
  delete schema.propertyNames;
  // A zod integer brings the bounds of JavaScript's numbers, which say nothing to people.
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  if (schema.type === 'integer') schema.format = 'int64';
  // The API server knows the formats date-time and uuid itself.
  if (schema.type === 'string' && schema.format) delete schema.pattern;
  // Exactly this form is taken beside x-kubernetes-int-or-string.
  if (schema['x-kubernetes-int-or-string']) schema.anyOf = [{ type: 'integer' }, { type: 'string' }];
}
