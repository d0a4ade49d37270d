/** Any JSON object. */
export type Json = Record<string, unknown>;

export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isJson(patch)) return patch;
  const result: Json = isJson(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}

/** What each manager has applied last, by its name and subresource. */
export type Applied = Map<string, Json>;

/**
 * Server-side apply, as far as it is needed: what this manager applied before and now leaves out is removed; what
 * another one has applied with another value is a conflict. Writes that are no apply own nothing.
 *
 * @returns the object, or the fields in conflict
 */
export function serverSideApply(
  live: Json,
  config: Json,
  { applied, manager, force }: { applied: Applied; manager: string; force: boolean },
): Json | { conflicts: string[] } {
  const tree = toTree(live);
  const leaves = leavesOf(toTree(config));
  const others = [...applied].filter(([name]) => name !== manager).map(([, other]) => leavesOf(toTree(other)));
  const conflicts = [...leaves].filter(([path, value]) =>
    others.some((other) => other.has(path) && other.get(path) !== value),
  );
  if (conflicts.length > 0 && !force) return { conflicts: conflicts.map(([path]) => path) };
  for (const path of leavesOf(toTree(applied.get(manager) ?? {})).keys()) {
    if (!leaves.has(path) && !others.some((other) => other.has(path))) removeLeaf(tree, path.split('\n'));
  }
  applied.set(manager, config);
  return fromTree(mergePatch(tree, toTree(config))) as Json;
}

/** Lists whose items the real one merges, by what tells the items apart. */
const listKeys: Record<string, (item: unknown) => string> = {
  conditions: (item) => String((item as Json)['type']),
  ownerReferences: (item) => String((item as Json)['uid']),
  finalizers: String,
};
const listMark = ' list';

function toTree(value: unknown, name = ''): unknown {
  const keyOf = listKeys[name];
  if (Array.isArray(value) && keyOf) {
    return { [listMark]: true, ...Object.fromEntries(value.map((item) => [keyOf(item), toTree(item)])) };
  }
  if (!isJson(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([member, child]) => [member, toTree(child, member)]));
}

function fromTree(value: unknown): unknown {
  if (!isJson(value)) return value;
  if (listMark in value) {
    const { [listMark]: _, ...items } = value;
    return Object.values(items).map(fromTree);
  }
  return Object.fromEntries(Object.entries(value).map(([name, child]) => [name, fromTree(child)]));
}

/** The values by their paths, as JSON. */
function leavesOf(
  tree: unknown,
  path: readonly string[] = [],
  leaves = new Map<string, string>(),
): Map<string, string> {
  const isLeaf = !isJson(tree);
  if (isLeaf) leaves.set(path.join('\n'), JSON.stringify(tree));
  else
    for (const [name, child] of Object.entries(tree)) if (name !== listMark) leavesOf(child, [...path, name], leaves);
  return leaves;
}

function removeLeaf(tree: unknown, [name = '', ...rest]: string[]): void {
  if (!isJson(tree)) return;
  if (rest.length === 0) {
    delete tree[name];
    return;
  }
  const child = tree[name];
  removeLeaf(child, rest);
  if (isJson(child) && Object.keys(child).length === 0) delete tree[name];
}
