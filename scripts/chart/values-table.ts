import { isMap, isScalar, type Pair, parseDocument, type YAMLMap } from 'yaml';

/** What values mean that have the same name in several places, and no comment there. */
const commonMeanings: Record<string, string> = {
  image: 'The image of the sidecar.',
  resources: 'Requests and limits of its container.',
  priorityClassName: 'How important its pods are.',
  nodeSelector: 'Labels of the nodes that it runs on.',
  tolerations: 'Taints of nodes that it runs on nevertheless.',
  affinity: 'Rules for where it runs.',
  enabled: 'Whether it is there.',
  replicas: 'How many pods stand by for each other.',
};

/**
 * The table of a chart's values, in Markdown: a line for each value, with the comment above it. What is written in
 * braces counts as one value.
 *
 * @param text of values.yaml
 * @throws Error that names the values that nobody has explained
 */
export function valuesTable(text: string): string {
  const root = parseDocument(text).contents;
  if (!isMap(root)) throw new Error('values.yaml: a map of values is expected');
  const rows = rowsOf(root, '');
  const silent = rows.filter(([, , meaning]) => !meaning).map(([name]) => name);
  if (silent.length > 0) throw new Error(`values.yaml: no comment says what these mean: ${silent.join(', ')}`);
  return [['value', 'default', 'meaning'], ['---', '---', '---'], ...rows]
    .map((cells) => `| ${cells.join(' | ')} |\n`)
    .join('');
}

function rowsOf(map: YAMLMap, prefix: string): string[][] {
  return map.items.flatMap((pair, index) => {
    const name = nameOf(pair);
    const { value } = pair;
    const isGroup = isMap(value) && !value.flow;
    // A comment above the first of a group is the group's, to the parser.
    const comment = commentOf(pair.key) ?? (index === 0 ? commentOf(map) : undefined);
    const meaning = comment ?? commonMeanings[name] ?? (isGroup && prefix === '' ? `The container ${name}.` : '');
    const standing = isGroup ? '' : `\`${JSON.stringify(valueOf(value))}\``;
    const row = [`\`${prefix}${name}\``, standing, meaning.replaceAll('|', '\\|')];
    return isGroup ? [row, ...rowsOf(value, `${prefix}${name}.`)] : [row];
  });
}

function nameOf({ key }: Pair): string {
  return isScalar(key) ? String(key.value) : String(key);
}

function valueOf(node: unknown): unknown {
  return (node as { toJSON?: () => unknown } | null)?.toJSON?.() ?? null;
}

/** The last paragraph of the comment: what stands above it, with an empty line between, is about something else. */
function commentOf(node: unknown): string | undefined {
  const comment = (node as { commentBefore?: string | null } | null)?.commentBefore;
  const paragraph = comment
    ?.split(/\n\s*\n/)
    .at(-1)
    ?.trim();
  return paragraph?.replaceAll(/\s*\n\s*/g, ' ') || undefined;
}
