import type { StepsOf } from '../lib/checkpoint.ts';

/** Named steps of what the engine changes, in order; each is reported after it is done. */
export const engineSteps = {
  'attach-engine': ['daemon-started', 'device-made'],
  'attach-loop': ['device-made'],
  'detach-engine': ['device-removed', 'daemon-stopped'],
  'detach-loop': ['device-removed'],
} as const;

export type EngineStep = StepsOf<typeof engineSteps>;
