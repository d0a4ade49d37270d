import { diskImageKind } from './disk-image.ts';
import { diskPoolKind } from './disk-pool.ts';
import { diskSnapshotKind } from './disk-snapshot.ts';
import type { Kind } from './kind.ts';
import { apiGroup } from './names.ts';

/** All kinds of ours. */
export const kinds: readonly Kind[] = [diskImageKind, diskSnapshotKind, diskPoolKind];

/** The name of a kind's CustomResourceDefinition. */
export function definitionName(kind: Pick<Kind, 'plural'>): string {
  return `${kind.plural}.${apiGroup}`;
}
