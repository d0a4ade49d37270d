import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { kinds } from '../src/api/kinds.ts';
import { definitionOf } from './api/definition.ts';
import { referenceSections, withSections } from './api/reference.ts';

/**
 * `scripts/generate-crds.ts DIRECTORY`: writes crds/ and docs/users/api.md below DIRECTORY, from the schemas in src/api. What
 * people wrote in docs/users/api.md stays; only what stands between its marks is replaced.
 */
async function main(directory: string): Promise<void> {
  const files = new Map<string, string>();
  for (const kind of kinds) {
    // kubectl reads YAML 1.1, in which a bare `off` is false.
    const text = stringify(definitionOf(kind), { version: '1.1', lineWidth: 120, aliasDuplicateObjects: false });
    files.set(`crds/${kind.plural}.yaml`, `# Generated from src/api by \`make generate\`; do not edit.\n${text}`);
  }
  const reference = await readFile(resolve(import.meta.dirname, '../docs/users/api.md'), 'utf8');
  files.set('docs/users/api.md', withSections(reference, referenceSections(kinds)));
  for (const [name, text] of files) {
    const file = join(directory, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
}

await main(process.argv[2] ?? '.');
