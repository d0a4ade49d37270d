import { defineConfig } from 'vitest/config';
import { LongestFirst } from './scripts/test-order.ts';

const minute = 60_000;

/** The tiers, from what needs nothing to what needs most; `make unit`, `make integration`, `make sanity`. */
export default defineConfig({
  test: {
    pool: 'forks',
    // A second is not enough on a machine that does other things, too.
    expect: { poll: { timeout: 15_000 } },
    // What was not as expected is told in the message, which is all that a run of the whole keeps.
    chaiConfig: { truncateThreshold: 400 },
    reporters: ['default', './scripts/test-reporter.ts'],
    sequence: { sequencer: LongestFirst },
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 20_000 } },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          // They wait for processes most of the time. Loop devices and the machine's time are shared: no more than two.
          maxWorkers: 2,
          testTimeout: 5 * minute,
          hookTimeout: 5 * minute,
        },
      },
      {
        extends: true,
        test: {
          name: 'sanity',
          include: ['test/sanity/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 15 * minute,
          hookTimeout: 5 * minute,
        },
      },
      {
        extends: true,
        test: {
          // With a real API server; says what is missing where there is none.
          name: 'operator',
          include: ['test/operator/**/*.test.ts'],
          globalSetup: ['test/operator/setup.ts'],
          fileParallelism: false,
          testTimeout: 3 * minute,
          hookTimeout: 5 * minute,
        },
      },
      {
        extends: true,
        test: {
          // On a cluster of kind, installed by the chart; says what is missing where there is none.
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          globalSetup: ['test/e2e/setup.ts'],
          fileParallelism: false,
          testTimeout: 5 * minute,
          hookTimeout: 5 * minute,
        },
      },
      {
        extends: true,
        test: {
          // Kubernetes' own suite for storage drivers, on the same cluster; LAMINA_CONFORMANCE=all runs all of it.
          name: 'conformance',
          include: ['test/conformance/**/*.test.ts'],
          globalSetup: ['test/e2e/setup.ts'],
          fileParallelism: false,
          hookTimeout: 5 * minute,
        },
      },
      {
        extends: true,
        test: {
          // In the emulated machine of test/vm/run, which is some twenty times slower.
          name: 'vm',
          include: ['test/vm/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 10 * minute,
          hookTimeout: 10 * minute,
        },
      },
    ],
  },
});
