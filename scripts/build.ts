import { readdirSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

/**
 * Bundles src/main.ts and all it needs into dist/, one chunk for each role, so that a role loads only its own code.
 * The bundle runs on Node 24 with nothing beside it.
 */
const result = await build({
  entryPoints: ['src/main.ts'],
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  sourcemap: true,
  // Stack traces point into the sources without carrying them.
  sourcesContent: false,
  minifySyntax: true,
  keepNames: true,
  chunkNames: 'chunks/[name]-[hash]',
  legalComments: 'none',
  metafile: true,
  // Failures are told once, as esbuild tells them.
  logLevel: 'warning',
  // CommonJS packages look for `require` and for their own place.
  banner: {
    js: [
      "import { createRequire as laminaCreateRequire } from 'node:module';",
      'const require = laminaCreateRequire(import.meta.url);',
      'const __filename = import.meta.filename;',
      'const __dirname = import.meta.dirname;',
    ].join('\n'),
  },
}).catch(() => process.exit(1));

for (const chunk of readdirSync('dist/chunks')) {
  if (!(`dist/chunks/${chunk}` in result.metafile.outputs)) rmSync(`dist/chunks/${chunk}`);
}

for (const [file, { bytes, entryPoint }] of Object.entries(result.metafile.outputs)) {
  if (file.endsWith('.js'))
    console.log(`${file}: ${Math.ceil(bytes / 1024)} KiB${entryPoint ? ` (${entryPoint})` : ''}`);
}
