import { z } from 'zod';

/** Where every tier leaves what came of it, as `<name>.json`. */
export const resultsDirectory = 'build/results';

/** What came of one tier. A suite of another program, such as csi-sanity, is counted in a file of its own. */
export const tierResultSchema = z.strictObject({
  passed: z.int(),
  failed: z.int(),
  skipped: z.array(z.strictObject({ name: z.string(), reason: z.string() })),
});
export type TierResult = z.infer<typeof tierResultSchema>;
