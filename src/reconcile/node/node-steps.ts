import type { StepsOf } from '../../lib/checkpoint.ts';

/** Named steps of what the node plugin does for objects, in order, beside those of the store and the engine. */
export const nodeSteps = {
  'make-image': ['finalizer-added', 'disk-made', 'status-written'],
  'grow-image': ['disk-grown'],
  'remove-image': ['disk-removed', 'finalizer-removed'],
  'make-snapshot': ['finalizer-added', 'snapshot-made', 'status-written'],
  'remove-snapshot': ['snapshot-removed', 'finalizer-removed'],
} as const;

export type NodeStep = StepsOf<typeof nodeSteps>;
