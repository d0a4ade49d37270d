import type { StepsOf } from '../../lib/checkpoint.ts';

/** Named steps of making disks visible at paths, in order; each is reported after it is done. */
export const stagingSteps = {
  stage: ['attached', 'format-recorded', 'formatted', 'filesystem-recorded', 'mounted', 'grown'],
  unstage: ['unmounted', 'detached'],
  publish: ['target-made', 'bound'],
  'publish-read-only': ['source-made', 'bound', 'source-removed'],
  'publish-read-only-block': ['device-made', 'bound'],
  unpublish: ['unmounted', 'target-removed'],
  'unpublish-read-only-block': ['device-removed'],
  expand: ['device-grown', 'filesystem-grown'],
} as const;

export type StagingStep = StepsOf<typeof stagingSteps>;

/** Named steps of work done while file systems are frozen. */
export const freezeSteps = {
  freeze: ['marked', 'frozen', 'work-done', 'thawed', 'unmarked'],
} as const;

export type FreezeStep = StepsOf<typeof freezeSteps>;
