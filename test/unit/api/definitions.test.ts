import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { definitionOf, type Schema } from '../../../scripts/api/definition.ts';
import { referenceSections, withSections } from '../../../scripts/api/reference.ts';
import { kinds } from '../../../src/api/kinds.ts';
import { maximumSizeBytes, minimumSizeBytes } from '../../../src/api/size-rules.ts';
import * as store from '../../../src/store/create-disk.ts';

const repository = path.resolve(import.meta.dirname, '../../..');

/** All that the API server allows of OpenAPI in a structural schema, as far as it is used here. */
const allowedKeys = new Set([
  ...['type', 'format', 'description', 'default', 'enum', 'pattern', 'minimum', 'maximum', 'minLength', 'maxLength'],
  ...[
    'maxItems',
    'minProperties',
    'maxProperties',
    'additionalProperties',
    'properties',
    'required',
    'items',
    'anyOf',
    'x-kubernetes-int-or-string',
    'x-kubernetes-list-type',
  ],
  ...['x-kubernetes-list-map-keys', 'x-kubernetes-validations'],
]);

interface Field {
  path: string;
  schema: Schema;
}

/** A schema and all below it. */
function fieldsOf(schema: Schema, at = ''): Field[] {
  const below = Object.entries(schema.properties ?? {}).flatMap(([name, field]) => fieldsOf(field, `${at}.${name}`));
  return [{ path: at, schema }, ...below, ...(schema.items ? fieldsOf(schema.items, `${at}[]`) : [])];
}

describe.each(kinds)('the definition of $kind', (kind) => {
  const definition = definitionOf(kind);
  const version = definition.spec.versions[0];
  const root = version?.schema.openAPIV3Schema ?? {};
  const fields = fieldsOf(root);
  const pathsWhere = (test: (schema: Schema) => boolean) =>
    fields.filter(({ schema }) => test(schema)).map((f) => f.path);

  it('is structural: every field has one type, and nothing else than a structural schema may have', () => {
    expect(pathsWhere((schema) => !schema.type && !schema['x-kubernetes-int-or-string'])).toEqual([]);
    expect(pathsWhere((schema) => Object.keys(schema).some((key) => !allowedKeys.has(key)))).toEqual([]);
    expect(pathsWhere((schema) => schema.type === 'array' && !schema.items)).toEqual([]);
    expect(
      pathsWhere((schema) => schema.type === 'object' && !schema.properties && !schema.additionalProperties),
    ).toEqual([]);
    const alternatives = fields.flatMap(({ schema }) => (schema.anyOf ? [schema] : []));
    for (const { anyOf, ...schema } of alternatives) {
      expect(schema['x-kubernetes-int-or-string']).toBe(true);
      expect(anyOf).toEqual([{ type: 'integer' }, { type: 'string' }]);
    }
  });

  it('describes every field', () => {
    const itemsOfSets = fields
      .filter(({ schema }) => schema['x-kubernetes-list-type'] === 'set')
      .map((f) => `${f.path}[]`);
    const undescribed = pathsWhere(({ description = '' }) => !/^[A-Z"].{3,}\.$|^ext4/s.test(description));
    expect(undescribed).toEqual(itemsOfSets);
  });

  it('bounds every text and list, so that the rules have a cost', () => {
    const isBounded = ({ maxLength, enum: values, format }: Schema) => maxLength || values || format;
    expect(pathsWhere((schema) => schema.type === 'string' && !isBounded(schema))).toEqual([]);
    expect(pathsWhere((schema) => schema.type === 'array' && !schema.maxItems)).toEqual([]);
    expect(pathsWhere((schema) => !!schema.additionalProperties && !schema.maxProperties)).toEqual([]);
  });

  it('says how lists are merged', () => {
    for (const { schema } of fields.filter((field) => field.schema.type === 'array')) {
      const isOfObjects = schema.items?.type === 'object';
      expect(schema['x-kubernetes-list-type']).toBe(isOfObjects ? 'map' : 'set');
      if (isOfObjects)
        expect(schema.items?.required).toEqual(
          expect.arrayContaining(schema['x-kubernetes-list-map-keys'] ?? ['none']),
        );
    }
  });

  it('requires only fields that there are, and gives only defaults that are values of them', () => {
    for (const { schema } of fields) {
      expect(Object.keys(schema.properties ?? {})).toEqual(expect.arrayContaining(schema.required ?? []));
      if (schema.default !== undefined && schema.enum) expect(schema.enum).toContain(schema.default);
      for (const name of schema.required ?? []) expect(schema.properties?.[name]?.default).toBeUndefined();
    }
  });

  it('gives no defaults to a status, of which only a report may speak', () => {
    const status = fieldsOf(root.properties?.['status'] ?? {});
    expect(status.filter(({ schema }) => schema.default !== undefined)).toEqual([]);
  });

  it('refuses in sentences that begin with the field and say what to do', () => {
    const rules = fields.flatMap(({ path: at, schema }) =>
      (schema['x-kubernetes-validations'] ?? []).map((rule) => ({ at, ...rule })),
    );
    for (const { message } of rules) expect(message).toMatch(/^[a-z][A-Za-z.]* [^\n]+(: |, )[^\n]+\.$/);
    for (const { at, fieldPath } of rules) {
      if (fieldPath) expect(fields.map((field) => field.path)).toContain(`${at}${fieldPath}`);
    }
    const messages = rules.map(({ message }) => message);
    expect(messages).toEqual([...new Set(messages)]);
  });

  it('shows and selects by fields that there are', () => {
    const paths = [
      ...(version?.additionalPrinterColumns ?? []).map(({ jsonPath }) => jsonPath),
      ...(version?.selectableFields ?? []).map(({ jsonPath }) => jsonPath),
    ].filter((jsonPath) => !jsonPath.startsWith('.metadata.'));
    const known = fields.map((field) => field.path);
    // A condition is found by its type: `.status.conditions[?(@.type=="Ready")].status`.
    const unknown = paths.map((jsonPath) => jsonPath.replace(/\[\?[^\]]*\]/, '[]')).filter((at) => !known.includes(at));
    expect(unknown).toEqual([]);
  });

  it('shows columns of the type that their fields have', () => {
    const typeOf = new Map(fields.map((field) => [field.path, field.schema.type]));
    for (const { jsonPath, type } of version?.additionalPrinterColumns ?? []) {
      const field = typeOf.get(jsonPath);
      if (field) expect(type === 'date' ? 'string' : type).toBe(field);
    }
  });

  it('shows whether and why at first, and the age as the last of the narrow columns', () => {
    const columns = version?.additionalPrinterColumns ?? [];
    const narrow = columns.filter((column) => !('priority' in column)).map(({ name }) => name);
    expect(narrow).toEqual(expect.arrayContaining(['Ready', 'Status', 'Age']));
    expect(narrow.at(-1)).toBe('Age');
    const names = columns.map(({ name }) => name);
    expect(names).toEqual([...new Set(names)]);
  });

  it('is what stands in crds/, read as kubectl reads it', async () => {
    const text = await readFile(path.join(repository, 'crds', `${kind.plural}.yaml`), 'utf8');
    expect(parse(text, { version: '1.1' })).toEqual(definition);
  });
});

describe('crds/', () => {
  it('holds the definitions of all kinds, and nothing else', async () => {
    const expected = kinds.map(({ plural }) => `${plural}.yaml`);
    expect(await readdir(path.join(repository, 'crds'))).toEqual(expected.toSorted());
  });
});

describe('docs/users/api.md', () => {
  it('holds the reference of all kinds as they are', async () => {
    const text = await readFile(path.join(repository, 'docs/users/api.md'), 'utf8');
    expect(withSections(text, referenceSections(kinds))).toBe(text);
  });

  it('cannot lose its marks unnoticed', () => {
    const sections = referenceSections(kinds);
    expect(() => withSections('# Nothing\n', sections)).toThrow(
      'no marks for DiskImage, DiskSnapshot, DiskPool, names',
    );
    expect(() => withSections('<!-- generated: Disk -->\n<!-- end -->\n', sections)).toThrow('Disk');
  });
});

describe('the bounds of sizes', () => {
  it('are those of the store', () => {
    expect([minimumSizeBytes, maximumSizeBytes]).toEqual([store.minimumSizeBytes, store.maximumSizeBytes]);
  });
});
