import { relative } from 'node:path';
import { importProblem } from './code-map.ts';

/** What is used here of the linter's (ESLint's) rule interface. */
interface Context {
  readonly filename: string;
  readonly cwd: string;
  report(problem: { node: ImportNode; message: string }): void;
}

/** Any node of the syntax tree that names a module. */
interface ImportNode {
  /** What is imported: a literal, unless it is computed. */
  source: { value?: unknown } | null;
  importKind?: 'type' | 'value';
  exportKind?: 'type' | 'value';
}

const kinds = [
  'ImportDeclaration',
  'ExportAllDeclaration',
  'ExportNamedDeclaration',
  'ImportExpression',
  'TSImportType',
] as const;

/** Holds every import of src/ against the code map. */
function checkImports(context: Context): Record<string, (node: ImportNode) => void> {
  const file = relative(context.cwd, context.filename);
  if (!file.startsWith('src/')) return {};
  const check = (node: ImportNode, kind: string): void => {
    const specifier = node.source?.value;
    if (typeof specifier !== 'string') return;
    const typesOnly = kind === 'TSImportType' || node.importKind === 'type' || node.exportKind === 'type';
    const message = importProblem(file.slice('src/'.length), specifier, typesOnly);
    if (message) context.report({ node, message });
  };
  return Object.fromEntries(kinds.map((kind) => [kind, (node) => check(node, kind)]));
}

export default { meta: { name: 'lamina' }, rules: { 'code-map': { create: checkImports } } };
