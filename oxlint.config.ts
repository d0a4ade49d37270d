import { defineConfig } from 'oxlint';

/** Only src/config.ts reads the environment and the arguments; only src/main.ts ends the process. */
const outsideWorld = (allowed: readonly string[]) => [
  { object: 'process', property: 'env', message: 'Only src/config.ts reads the environment.' },
  { object: 'process', property: 'argv', message: 'Only src/config.ts reads the arguments.' },
  { object: 'process', property: 'exit', message: 'Only src/main.ts ends the process.' },
].filter(({ property }) => !allowed.includes(property));

export default defineConfig({
  plugins: ['eslint', 'typescript', 'unicorn', 'oxc', 'import', 'promise', 'node', 'vitest'],
  jsPlugins: ['./scripts/lint/plugin.ts'],
  options: { typeAware: true },
  env: { node: true, es2024: true },
  ignorePatterns: ['src/gen/**', 'dist/**', 'build/**'],
  categories: { correctness: 'error', suspicious: 'error' },
  rules: {
    'lamina/code-map': 'error',
    'import/no-cycle': 'error',
    'import/no-default-export': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/no-misused-promises': ['error', { checksVoidReturn: false }],
    'typescript/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    'typescript/only-throw-error': 'error',
    'typescript/prefer-promise-reject-errors': 'error',
    'typescript/return-await': ['error', 'error-handling-correctness-only'],
    'no-console': 'error',
    'max-lines-per-function': ['error', { max: 40, skipBlankLines: true, skipComments: true }],
    'max-params': ['error', { max: 4 }],
    'max-lines': ['error', { max: 400, skipBlankLines: false, skipComments: false }],
    eqeqeq: 'error',
    // A cast after a check that the type system cannot follow is how branded ids and parsed causes are made.
    'typescript/no-unsafe-type-assertion': 'off',
    // A copy is iterated where the original changes meanwhile; a fresh array may be sorted in place.
    'unicorn/no-useless-spread': 'off',
    'unicorn/no-array-sort': 'off',
    // The default order is right for strings, branded ones too.
    'typescript/require-array-sort-compare': 'off',
    'no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
  },
  overrides: [
    { files: ['src/**'], rules: { 'no-restricted-properties': ['error', ...outsideWorld([])] } },
    { files: ['src/config.ts'], rules: { 'no-restricted-properties': ['error', ...outsideWorld(['env', 'argv'])] } },
    { files: ['src/main.ts'], rules: { 'no-restricted-properties': ['error', ...outsideWorld(['exit'])] } },
    { files: ['test/**'], rules: { 'max-lines-per-function': 'off', 'max-params': 'off' } },
    { files: ['scripts/**'], rules: { 'no-console': 'off' } },
    { files: ['*.config.ts', 'scripts/lint/plugin.ts'], rules: { 'import/no-default-export': 'off' } },
  ],
});
