import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, inject, it } from 'vitest';
import { findMachine } from '../e2e/machine.ts';
import { saveSpecs } from '../ginkgo-report.ts';
import {
  everything,
  findPrograms,
  growsInUse,
  modifiesUnbound,
  needsImages,
  quick,
  runStorageSuite,
  smoke,
} from './storage-suite.ts';

const minute = 60_000;
const wanted = process.env['LAMINA_CONFORMANCE'];
const selections = wanted === 'all' ? everything : [wanted === 'smoke' ? smoke : quick];

it.for(selections)(
  "Kubernetes' own storage suite, $name, finds nothing wrong",
  {
    timeout: 100 * minute,
  },
  async (selection, context) => {
    const machine = findMachine();
    const place = inject('kind');
    if ('missing' in machine || place === null) {
      return context.skip('missing' in machine ? machine.missing : 'no cluster was set up');
    }
    const programs = findPrograms((process.env['LAMINA_SUITE_PROGRAMS'] ?? '').split(':').filter(Boolean));
    if ('missing' in programs) return context.skip(programs.missing);
    const left = leftOut();
    const skip = [selection.skip, ...left.map(({ pattern }) => pattern)].join('|');
    const driver = path.join(import.meta.dirname, 'driver.yaml');
    const results = await runStorageSuite(
      programs,
      { selection: { ...selection, skip }, kubeconfig: place.kubeconfig, driver },
      (line) => process.stdout.write(`${line}\n`),
    );
    const named = left.map(({ pattern, reason }) => ({ name: pattern, reason }));
    await saveSpecs(`storage-suite-${selection.name}`, { ...results, skipped: [...results.skipped, ...named] });
    expect(results.failed).toEqual([]);
    expect(results.passed.length).toBeGreaterThan(0);
  },
);

/** Specs that nothing here could pass, and why. */
function leftOut(): { pattern: string; reason: string }[] {
  const capabilities = BigInt(`0x${/^CapBnd:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  const sysResource = 24n;
  const unbound = 'it modifies claims that no pod uses, which WaitForFirstConsumer leaves unbound';
  const left = [{ pattern: modifiesUnbound, reason: unbound }];
  if ((capabilities >> sysResource) % 2n === 0n) {
    const reason = 'ext4 grows in use only where root has CAP_SYS_RESOURCE, which it lacks here';
    left.push({ pattern: growsInUse, reason });
  }
  if (process.env['LAMINA_OFFLINE']) {
    const reason = 'it pulls an image of a volume populator, and LAMINA_OFFLINE says that nothing can be pulled';
    left.push({ pattern: needsImages, reason });
  }
  return left;
}
