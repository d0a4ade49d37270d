// NOTE to the staging helper: written by the lead as a stopgap; replace by yours if you have one (keep the exports whileFrozen/thawMarked(runDir, logger)/freezeSteps/stagingSteps and the class DeviceFreezer used in roles/standalone.ts), and remove this line.
import type { StepsOf } from '../lib/checkpoint.ts';

/** Named steps of making disks visible, in order; each is reported when it is done. */
export const stagingSteps = {
  stage: ['attached', 'format-recorded', 'formatted', 'filesystem-recorded', 'mounted', 'grown'],
  publish: ['target-made', 'bound'],
  unpublish: ['unmounted', 'target-removed'],
  unstage: ['unmounted', 'detached'],
  expand: ['device-grown', 'filesystem-grown'],
} as const;

export const freezeSteps = {
  freeze: ['marked', 'frozen', 'work-done', 'thawed', 'unmarked'],
} as const;

export type StagingStep = StepsOf<typeof stagingSteps>;
export type FreezeStep = StepsOf<typeof freezeSteps>;
