import { readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

/**
 * Enters the packages of other platforms into package-lock.json where npm left them out. npm does so when the registry
 * at hand does not have them, and then refuses the lock file itself (`npm ci`: "Missing: … from lock file"). They are
 * never installed here; their digests are simply not known.
 */
const lockFile = 'package-lock.json';

const packageSchema = z.looseObject({
  dev: z.boolean().optional(),
  optionalDependencies: z.record(z.string(), z.string()).optional(),
});
const lockSchema = z.looseObject({ packages: z.record(z.string(), packageSchema) });

const systems = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const processors = [
  ...['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'wasm32', 'x64'],
  ...['armv7', 'ppc64le', 'aarch64'],
];

const text = readFileSync(lockFile, 'utf8');
const lock = lockSchema.parse(JSON.parse(text));
const added: Record<string, object> = {};
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    if (placesOf(path, name).some((place) => place in lock.packages)) continue;
    added[`node_modules/${name}`] = absentPackage(name, range, entry.dev ?? false);
  }
}
// Unparsed, so that what was there keeps its order.
const untouched = z.object({ packages: z.record(z.string(), z.unknown()) });
const whole: object = JSON.parse(text);
const packages = Object.entries({ ...untouched.parse(whole).packages, ...added });
packages.sort(([a], [b]) => a.localeCompare(b, 'en'));
writeFileSync(lockFile, `${JSON.stringify({ ...whole, packages: Object.fromEntries(packages) }, null, 2)}\n`);
console.log(`${lockFile}: ${Object.keys(added).length} packages of other platforms added`);

/** Where a dependency `name` of the package at `path` may be installed. */
function placesOf(path: string, name: string): string[] {
  const parents = [path];
  for (let at = path; at !== ''; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) parents.push(at);
  return [...parents.filter(Boolean).map((parent) => `${parent}/node_modules/${name}`), `node_modules/${name}`];
}

function absentPackage(name: string, range: string, dev: boolean): object {
  const words = name.split(/[-/]/);
  const system = systems.find((os) => words.includes(os));
  const processor = processors.find((cpu) => words.includes(cpu));
  if (!system && !processor) throw new Error(`${name}: not in the lock, and its name says nothing of a platform`);
  const libc = words.includes('musl') ? 'musl' : words.includes('gnu') ? 'glibc' : undefined;
  return {
    version: range.replace(/^[~^]/, ''),
    ...(processor && { cpu: [processor] }),
    ...(dev && { dev }),
    optional: true,
    ...(system && { os: [system] }),
    ...(libc && { libc: [libc] }),
  };
}
