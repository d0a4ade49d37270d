import { mkdirSync, writeFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node';
import { resultsDirectory, type TierResult } from './test-results.ts';

/** Writes one file of results for each tier that ran, for scripts/test.ts to add up. */
export default class ResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const tiers = new Map<string, TierResult>();
    for (const module of modules) {
      const tier = module.project.name;
      const result = tiers.get(tier) ?? { passed: 0, failed: 0, failures: [], skipped: [] };
      tiers.set(tier, result);
      for (const test of module.children.allTests()) count(result, test);
      // A file that cannot be loaded has no tests to fail.
      for (const error of module.errors().slice(0, 1)) fail(result, module.relativeModuleId, error.message);
      // Tests whose set-up fails are skipped, not failed.
      for (const suite of module.children.allSuites()) {
        const [error] = suite.errors();
        if (error)
          fail(result, `${module.relativeModuleId} > ${suite.fullName}, before or after its tests`, error.message);
      }
    }
    const [first] = tiers.values();
    for (const error of first ? unhandledErrors : []) if (first) fail(first, 'outside of all tests', error.message);
    mkdirSync(resultsDirectory, { recursive: true });
    for (const [tier, result] of tiers) writeFileSync(`${resultsDirectory}/${tier}.json`, JSON.stringify(result));
  }
}

function count(result: TierResult, test: TestCase): void {
  const outcome = test.result();
  if (outcome.state === 'passed') result.passed += 1;
  else if (outcome.state === 'failed')
    fail(result, `${test.module.relativeModuleId} > ${test.fullName}`, outcome.errors[0]?.message ?? '');
  else if (outcome.state === 'skipped') {
    result.skipped.push({ name: test.fullName, reason: outcome.note ?? 'no reason given' });
  } else fail(result, test.fullName, 'it never ended');
}

function fail(result: TierResult, name: string, message: string): void {
  result.failed += 1;
  result.failures.push({ name, reason: message.split('\n', 1)[0] ?? '' });
}
