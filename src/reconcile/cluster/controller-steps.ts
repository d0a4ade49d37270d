import type { StepsOf } from '../../lib/checkpoint.ts';

/** Named steps of what a controller writes, in order: for CSI, and while it is elected. */
export const controllerSteps = {
  'create-volume': ['image-declared', 'image-made', 'image-withdrawn'],
  'delete-volume': ['image-deleted'],
  'grow-volume': ['size-wanted', 'old-size-wanted'],
  'modify-volume': ['change-wanted'],
  'create-snapshot': ['snapshot-declared', 'snapshot-taken', 'snapshot-withdrawn'],
  'delete-snapshot': ['snapshot-deleted'],
  'place-image': ['choice-told', 'node-named'],
  'snapshot-source': ['snapshot-declared', 'snapshot-deleted'],
  'copy-image': ['copy-declared', 'copy-removed', 'status-written'],
  'forget-node': ['image-told', 'image-released', 'snapshot-told', 'snapshot-released', 'pool-told', 'pool-removed'],
  'adopt-orphans': ['disk-declared', 'snapshot-declared'],
  'populate-claim': ['volume-made', 'volume-declared'],
  'sweep-unclaimed': ['claim-noted', 'object-deleted'],
} as const;

export type ControllerStep = StepsOf<typeof controllerSteps>;
