import type { StepsOf } from '../lib/checkpoint.ts';

/**
 * Named steps of everything the store changes, in order; each is reported when it is done. There is no journal:
 * recovery (recover.ts) finishes or undoes an operation that ended after any of them.
 */
export const storeSteps = {
  'create-disk': ['head-built', 'head-published', 'disk-recorded', 'source-released'],
  'delete-disk': ['disk-unrecorded'],
  'take-snapshot': [
    'overlay-published',
    'overlay-prepared',
    'snapshot-recorded',
    'head-recorded',
    'head-switched',
    'layer-sealed',
    'snapshot-ready',
  ],
  'copy-snapshot': ['layer-copied', 'layer-published', 'snapshot-recorded'],
  'delete-snapshot': ['snapshot-unrecorded'],
  'grow-disk': ['image-grown', 'layer-recorded', 'disk-recorded'],
  collect: ['layer-withdrawn', 'layer-removed'],
  compact: ['copy-made', 'merged', 'merge-synced', 'swapped', 'upper-recorded'],
} as const;

/** The same of images and of layers from other nodes, which CSI has no call for. */
export const imageSteps = {
  'create-image': ['layer-built', 'layer-published', 'image-recorded'],
  'take-image': ['image-recorded', 'source-released'],
  'delete-image': ['image-unrecorded'],
  'install-layer': ['layer-received', 'layer-published'],
} as const;

export type StoreStep = StepsOf<typeof storeSteps> | StepsOf<typeof imageSteps>;
