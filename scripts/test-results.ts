import { z } from 'zod';

/** Where every tier leaves what came of it, as `<name>.json`. */
export const resultsDirectory = 'build/results';

const namedSchema = z.strictObject({ name: z.string(), reason: z.string() });

/** What came of one tier. A suite of another program, such as csi-sanity, is counted in a file of its own. */
export const tierResultSchema = z.strictObject({
  passed: z.int(),
  failed: z.int(),
  /** What failed, as far as it has a name. */
  failures: z.array(namedSchema).default([]),
  skipped: z.array(namedSchema),
});
export type TierResult = z.output<typeof tierResultSchema>;
