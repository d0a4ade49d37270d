import { type ConditionType, conditionTypes } from '../../src/api/conditions.ts';
import { quantityPattern } from '../../src/api/fields.ts';
import type { Kind } from '../../src/api/kind.ts';
import { nameMeanings } from '../../src/api/names.ts';
import { definitionOf, type Schema } from './definition.ts';

/** The parts of docs/users/api.md that are generated, by the names that their marks there have. */
export function referenceSections(kinds: readonly Kind[]): Map<string, string> {
  const sections = kinds.map((kind) => [kind.kind, kindSection(kind)] as const);
  return new Map([...sections, ['names', namesSection()]]);
}

/**
 * `text` with what stands between the marks replaced.
 * @throws Error where a section has no marks, or marks have no section
 */
export function withSections(text: string, sections: ReadonlyMap<string, string>): string {
  const missing = new Set(sections.keys());
  const result = text.replace(
    /(<!-- generated: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, begin: string, name: string, end: string) => {
      const section = sections.get(name);
      if (section === undefined || !missing.delete(name))
        throw new Error(`docs/users/api.md: no section, or a second one: ${name}`);
      return `${begin}\n${section}\n${end}`;
    },
  );
  if (missing.size > 0) throw new Error(`docs/users/api.md: no marks for ${[...missing].join(', ')}`);
  return result;
}

function kindSection(kind: Kind): string {
  const root = definitionOf(kind).spec.versions[0]?.schema.openAPIV3Schema ?? {};
  const { spec, status } = root.properties ?? {};
  const rules = rulesOf(root);
  const parts = [
    root.description ?? '',
    `Short name \`${kind.shortName}\`, category \`lamina\`, ${kind.scope === 'Cluster' ? 'not in a namespace' : 'in a namespace'}. Lists and watches can select by ${kind.selectableFields.map((field) => `\`${field.slice(1)}\``).join(', ')}.`,
    '#### Spec',
    fieldsTable(spec ?? {}),
    ...(rules.length > 0
      ? ['The API server refuses what breaks one of these rules, with the sentence:', list(rules)]
      : []),
    '#### Status',
    fieldsTable(status ?? {}),
    '#### Conditions',
    conditionsTable(kind),
    '#### Columns',
    table(
      ['column', 'shows', ''],
      kind.columns.map(({ name, description, wide }) => [name, description, wide ? '`-o wide`' : '']),
    ),
  ];
  return `${parts.join('\n\n')}\n`;
}

function fieldsTable(schema: Schema): string {
  const rows = fieldRows(schema, '');
  return table(['field', 'type', 'default', 'meaning'], rows);
}

function fieldRows(schema: Schema, prefix: string): string[][] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const path = `${prefix}${name}`;
    const standing =
      field.default === undefined
        ? schema.required?.includes(name)
          ? 'required'
          : ''
        : code(JSON.stringify(field.default));
    return [
      [code(path), typeOf(field), standing, field.description ?? ''],
      ...fieldRows(field, `${path}.`),
      ...fieldRows(field.items ?? {}, `${path}[].`),
    ];
  });
}

function typeOf(schema: Schema): string {
  if (schema['x-kubernetes-int-or-string'] || schema.pattern === quantityPattern.source) return 'quantity';
  if (schema.enum) return schema.enum.map(code).join(', ');
  if (schema.type === 'array') return `list, at most ${schema.maxItems}`;
  if (schema.additionalProperties) return `map, at most ${schema.maxProperties}`;
  return schema.format === 'date-time' ? 'time' : (schema.type ?? '');
}

/** The messages of the rules of a schema and of all fields below it. */
function rulesOf(schema: Schema): string[] {
  const own = (schema['x-kubernetes-validations'] ?? []).map(({ message }) => message);
  return [...own, ...Object.values(schema.properties ?? {}).flatMap(rulesOf)];
}

function conditionsTable({ kind }: Kind): string {
  const types: Readonly<Record<string, ConditionType>> = conditionTypes[kind];
  const rows = Object.entries(types).flatMap(([type, { meaning, reasons, failures }]) => [
    [code(type), '', '', `**${meaning}**`],
    ...Object.entries(reasons).map(([reason, { status, meaning: why }]) => ['', status, code(reason), why]),
    ...(failures ? [['', 'False', 'a failure', 'As in [errors.md](errors.md); see [Failures](#failures).']] : []),
  ]);
  return table(['condition', 'status', 'reason', 'meaning'], rows);
}

function namesSection(): string {
  return `${table(
    ['name', 'meaning'],
    Object.entries(nameMeanings).map(([name, meaning]) => [code(name), meaning]),
  )}\n`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n');
}

function list(items: readonly string[]): string {
  return items.map((item) => `- ${item}`).join('\n');
}

function code(text: string): string {
  return `\`${text}\``;
}
