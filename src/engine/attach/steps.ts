import type { StepsOf } from '../../lib/checkpoint.ts';

/** Named steps of what the engine changes, in order; each is reported after it is done. */
export const engineSteps = {
  'attach-engine': ['daemon-started', 'device-made', 'device-recorded'],
  'attach-loop': ['device-made', 'discard-forbidden'],
  'detach-engine': ['device-removed', 'daemon-stopped'],
  'detach-loop': ['device-removed'],
  'resize-engine': ['image-grown', 'device-grown'],
  'resize-loop': ['device-grown'],
  'follow-chain': ['node-added', 'reopened', 'unused-removed'],
} as const;

export type EngineStep = StepsOf<typeof engineSteps>;
