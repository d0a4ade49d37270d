import { posix } from 'node:path';

/**
 * The code map: which folder of src/ may import from which others, and which npm packages. The linter refuses
 * everything else (plugin.ts beside this), and docs/developers/development.md explains it. `main` is a single file.
 */
export const codeMap: Record<string, { parts: readonly string[] | 'any'; packages: readonly string[] | 'any' }> = {
  main: { parts: ['roles', 'config', 'lib'], packages: ['commander'] },
  config: { parts: ['lib'], packages: ['commander', 'zod'] },
  roles: { parts: 'any', packages: 'any' },
  api: { parts: ['lib'], packages: ['zod'] },
  gen: { parts: [], packages: ['@bufbuild/protobuf', '@grpc/grpc-js'] },
  lib: { parts: [], packages: ['@peculiar/x509', 'execa', 'reflect-metadata', 'zod'] },
  qemu: { parts: ['lib'], packages: ['zod'] },
  host: { parts: ['lib'], packages: ['zod'] },
  store: { parts: ['qemu', 'host', 'lib'], packages: ['zod'] },
  engine: { parts: ['qemu', 'host', 'store', 'lib'], packages: ['zod'] },
  transfer: { parts: ['store', 'qemu', 'lib'], packages: ['@peculiar/x509', 'tar-stream', 'zod'] },
  kube: { parts: ['api', 'lib'], packages: ['yaml', 'zod'] },
  reconcile: { parts: ['api', 'kube', 'store', 'engine', 'transfer', 'lib'], packages: ['zod'] },
  csi: { parts: ['gen', 'api', 'lib'], packages: ['@grpc/grpc-js', 'zod'] },
  telemetry: { parts: ['lib'], packages: ['pino', 'prom-client'] },
};

/** The interfaces that join CSI and the domain: what implements one imports its types, and nothing else of csi/. */
const joints: Record<string, readonly string[]> = {
  store: ['csi/controller/disk-service.ts'],
  engine: ['csi/controller/disk-service.ts', 'csi/node/node-service.ts'],
};

/** Folders of one part that run in different processes: what both need is beside them. */
const apart = [
  ['reconcile/cluster', 'reconcile/node'],
  ['roles/controller-plugin', 'roles/node-plugin'],
] as const;

/**
 * What is wrong with an import, or undefined.
 *
 * @param file the importing file, relative to src/
 * @param specifier what stands in the import
 * @param typesOnly whether it is an `import type`
 */
export function importProblem(file: string, specifier: string, typesOnly: boolean): string | undefined {
  const part = partOf(file);
  const line = codeMap[part];
  if (!line) return `Code map: scripts/lint/code-map.ts has no line for src/${part}; add one, with its reason.`;
  if (specifier.startsWith('node:')) return undefined;
  if (!specifier.startsWith('.')) return packageProblem(part, line.packages, specifier);
  const target = posix.join(posix.dirname(file), specifier);
  if (part === 'main' && target === '../package.json') return undefined;
  if (target.startsWith('..')) return 'Code map: nothing in src/ imports from outside of it.';
  const other = partOf(target);
  if (other === part) return apartProblem(posix.dirname(file), posix.dirname(target));
  if (other === 'main') return 'Code map: nothing imports main.';
  if (line.parts === 'any' || line.parts.includes(other)) return undefined;
  if (typesOnly && joints[part]?.includes(target)) return undefined;
  return `Code map: ${part} does not import ${other}; it may import ${line.parts.join(', ') || 'nothing'}.`;
}

function apartProblem(from: string, to: string): string | undefined {
  const pair = apart.find((each) => each.some((folder) => folder === from) && each.some((folder) => folder === to));
  return pair && from !== to ? `Code map: ${from} does not import ${to}; they run in different processes.` : undefined;
}

function packageProblem(part: string, packages: readonly string[] | 'any', specifier: string): string | undefined {
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  if (packages === 'any' || packages.includes(name)) return undefined;
  return `Code map: ${part} does not import the package ${name}; it may import ${packages.join(', ') || 'none'}.`;
}

/** `store` for `store/pool.ts`, `main` for `main.ts`. */
function partOf(path: string): string {
  return (path.split('/')[0] ?? path).replace(/\.ts$/, '');
}
