import type { StepsOf } from '../../lib/checkpoint.ts';

/** Named steps of a transfer on the side that receives, in order; each is reported when it is done. */
export const transferSteps = {
  'fetch-layers': [
    'chain-described',
    'layer-begun',
    'layer-progressed',
    'layer-complete',
    'layer-installed',
    'fetched',
  ],
} as const;

export type TransferStep = StepsOf<typeof transferSteps>;

/** The same of an import; `…progressed` is reported again and again, and unpacking only where there is something to unpack. What follows are the steps of create-image. */
export const importSteps = {
  'import-image': ['begun', 'progressed', 'downloaded', 'unpack-progressed', 'unpacked', 'accepted'],
} as const;

export type ImportStep = StepsOf<typeof importSteps>;
