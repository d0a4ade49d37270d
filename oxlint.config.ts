import { defineConfig } from 'oxlint';

/** Arguments and environment reach the program through src/config/, and only src/main.ts ends the process. */
const outsideWorld = [
  { object: 'process', property: 'env', message: 'Only src/main.ts and src/config/ see the environment.' },
  { object: 'process', property: 'argv', message: 'Only src/main.ts and src/config/ see the arguments.' },
  { object: 'process', property: 'exit', message: 'Only src/main.ts ends the process.' },
];

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
    // It makes what the library for certificates needs, and is nothing itself.
    'import/no-unassigned-import': ['error', { allow: ['reflect-metadata'] }],
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
    'unicorn/no-array-reverse': 'off',
    // tsc says it better (noImplicitReturns), and knows when a switch is exhaustive.
    'typescript/consistent-return': 'off',
    // fast-check is used as `fc`, as its documentation does; its properties hold the expectations.
    'import/no-named-as-default-member': 'off',
    'vitest/no-conditional-expect': 'off',
    // A step that throws is a failed test, too; hooks and helpers expect that nothing is left behind.
    'vitest/expect-expect': 'off',
    'vitest/no-standalone-expect': 'off',
    'vitest/valid-expect': ['error', { maxArgs: 2 }],
    'unicorn/consistent-function-scoping': 'off',
    // Takes every method called catch for a promise's.
    'promise/valid-params': 'off',
    // The default order is right for strings, branded ones too.
    'typescript/require-array-sort-compare': 'off',
    'no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
  },
  overrides: [
    {
      files: ['src/**'],
      excludeFiles: ['src/main.ts', 'src/config/**'],
      rules: { 'no-restricted-properties': ['error', ...outsideWorld] },
    },
    { files: ['test/**'], rules: { 'max-lines-per-function': 'off', 'max-lines': 'off', 'max-params': 'off' } },
    { files: ['scripts/**'], rules: { 'no-console': 'off' } },
    {
      files: ['*.config.ts', 'scripts/lint/plugin.ts', 'scripts/test-reporter.ts'],
      rules: { 'import/no-default-export': 'off' },
    },
  ],
});
