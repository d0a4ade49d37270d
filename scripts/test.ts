import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { resultsDirectory, tierResultSchema, type TierResult } from './test-results.ts';

/**
 * `scripts/test.ts TIER...`: runs the tiers one after the other, whatever comes of each, then lists what was skipped
 * and ends with one line that counts them all. The tier `lint` is the linters. A further argument after `--` goes to
 * vitest. Exits with 1 where anything failed.
 */
const tiers = ['lint', 'unit', 'integration', 'sanity', 'operator', 'e2e', 'conformance'];

/** Each is one check of the tier `lint`. */
const linters = [
  ['scripts/generate', '--check'],
  ['tsc'],
  ['oxlint', '--deny-warnings'],
  ['biome', 'format'],
  ['knip'],
] as const;

function main(args: readonly string[]): number {
  const end = args.includes('--') ? args.indexOf('--') : args.length;
  const wanted = args.slice(0, end);
  const unknown = wanted.filter((tier) => !tiers.includes(tier));
  if (unknown.length > 0 || wanted.length === 0) {
    console.error(`usage: scripts/test.ts TIER... [-- VITEST-ARGUMENT...]; tiers: ${tiers.join(', ')}`);
    return 2;
  }
  rmSync(resultsDirectory, { recursive: true, force: true });
  mkdirSync(resultsDirectory, { recursive: true });
  for (const tier of wanted) {
    console.log(`\n== ${tier}`);
    if (tier === 'lint') lint();
    else runTier(tier, args.slice(end + 1));
  }
  return summarize();
}

function lint(): void {
  const results = linters.map(([command, ...args]) => {
    const ok = spawnSync(command, args, { stdio: 'inherit' }).status === 0;
    console.log(`${ok ? 'ok' : 'FAILED'}: ${[command, ...args].join(' ')}`);
    return ok;
  });
  const passed = results.filter(Boolean).length;
  save('lint', { passed, failed: results.length - passed, failures: [], skipped: [] });
}

function runTier(tier: string, args: readonly string[]): void {
  const { status, signal } = spawnSync('vitest', ['run', '--project', tier, ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const failures = readResults().find(([name]) => name === tier)?.[1].failed;
  if (status !== 0 && !failures) {
    console.log(`${tier}: vitest ended with ${signal ?? status} and said nothing of a failed test`);
    save(`${tier}-run`, { passed: 0, failed: 1, failures: [], skipped: [] });
  }
}

function summarize(): number {
  const results = readResults();
  const skipped = results.flatMap(([tier, result]) => result.skipped.map((test) => ({ tier, ...test })));
  if (skipped.length > 0) console.log('\nskipped:');
  // Many for the same reason are told of once.
  for (const group of Map.groupBy(skipped, ({ tier, reason }) => `${tier}: ${reason}`).values()) {
    const [{ tier, name, reason }] = group as [(typeof skipped)[number]];
    console.log(`  ${tier}: ${name}${group.length > 1 ? `, and ${group.length - 1} more` : ''}: ${reason}`);
  }
  console.log('');
  for (const [tier, { failures }] of results) {
    for (const { name, reason } of failures) console.log(`FAILED: ${tier}: ${name}: ${reason}`);
  }
  for (const [tier, { passed, failed }] of results) console.log(`${tier}: ${passed} passed, ${failed} failed`);
  const sum = (of: 'passed' | 'failed'): number => results.reduce((total, [, result]) => total + result[of], 0);
  console.log(`${sum('passed')} passed, ${sum('failed')} failed`);
  return sum('failed') > 0 || sum('passed') === 0 ? 1 : 0;
}

function readResults(): [string, TierResult][] {
  return readdirSync(resultsDirectory).map((file) => [
    file.replace(/\.json$/, ''),
    tierResultSchema.parse(JSON.parse(readFileSync(`${resultsDirectory}/${file}`, 'utf8'))),
  ]);
}

function save(name: string, result: TierResult): void {
  writeFileSync(`${resultsDirectory}/${name}.json`, JSON.stringify(result));
}

process.exitCode = main(process.argv.slice(2));
