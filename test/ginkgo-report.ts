import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { resultsDirectory, type TierResult } from '../scripts/test-results.ts';

export interface SpecResult {
  name: string;
  /** Why it failed or was skipped. */
  reason: string;
}

/** What came of the specs of a suite written with Ginkgo. */
export interface SpecResults {
  passed: string[];
  failed: SpecResult[];
  skipped: SpecResult[];
}

/** Why a spec is skipped that says nothing itself. */
export const switchedOff = 'switched off in the suite itself';

const maxReasonLength = 600;

const reportSchema = z.array(
  z.object({
    SpecReports: z.array(
      z.object({
        ContainerHierarchyTexts: z.array(z.string()).nullable(),
        LeafNodeType: z.string(),
        LeafNodeText: z.string(),
        State: z.string(),
        Failure: z.object({ Message: z.string() }).optional(),
      }),
    ),
  }),
);

/** Reads what `--ginkgo.json-report` wrote. @throws ZodError where it is no such report */
export function parseGinkgoReport(json: unknown): SpecResults {
  const specs = reportSchema.parse(json).flatMap((suite) => suite.SpecReports);
  const result: SpecResults = { passed: [], failed: [], skipped: [] };
  for (const spec of specs) {
    const name = [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ').trim() || spec.LeafNodeType;
    // Behind this comes a dump of Go's structures.
    const reason = (spec.Failure?.Message ?? '').slice(0, maxReasonLength);
    if (spec.State === 'skipped') result.skipped.push({ name, reason });
    else if (spec.State === 'pending') result.skipped.push({ name, reason: switchedOff });
    else if (spec.State !== 'passed') result.failed.push({ name, reason: `${spec.State}: ${reason}` });
    // Set-up and reports around the specs are nothing to count.
    else if (spec.LeafNodeType === 'It') result.passed.push(name);
  }
  return result;
}

/** Leaves the count of specs for the summary of all tiers. */
export async function saveSpecs(name: string, { passed, failed, skipped }: SpecResults): Promise<void> {
  const result: TierResult = { passed: passed.length, failed: failed.length, failures: failed, skipped };
  await mkdir(resultsDirectory, { recursive: true });
  await writeFile(path.join(resultsDirectory, `${name}.json`), JSON.stringify(result));
}
