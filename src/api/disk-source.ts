import * as z from 'zod';
import { subdomain } from './fields.ts';
import { immutable, withRules } from './rule.ts';

/** What a disk can start from: each value of `type`, but for `blank`, has a member of its name. */
const members = ['diskImage', 'diskSnapshot'] as const;

const reference = (kind: string, what: string) =>
  z
    .object({ name: subdomain.meta({ description: `Name of a ${kind} in the same namespace.` }) })
    .meta({ description: `With type ${kind.charAt(0).toLowerCase()}${kind.slice(1)}: ${what}` })
    .optional();

const memberRules = members.map((member) => ({
  rule: `has(self.${member}) == (self.type == '${member}')`,
  message: `source.${member} belongs to source.type '${member}', and to no other: give the member that is named as the type is, and only that one.`,
  fieldPath: `.${member}`,
}));

/**
 * An enum and one optional member for each of its values, as unions are written in Kubernetes' schemas. What is to come
 * (http, registry, persistentVolumeClaim, volumeSnapshot) adds values and members; a client must expect new ones.
 */
export const sourceField = z
  .object({
    type: z.enum(['blank', ...members]).meta({
      description:
        'What the disk starts from. blank: nothing, it reads as zeroes. diskImage: a copy of another disk as it is now. diskSnapshot: a copy of a disk as it was. Copies are made in a blink at any size, as they share what is not changed.',
    }),
    diskImage: reference('DiskImage', 'the disk to copy.'),
    diskSnapshot: reference('DiskSnapshot', 'the snapshot to copy.'),
  })
  .meta({
    description: 'What the disk starts from; it cannot be changed later.',
    ...withRules(
      ...memberRules,
      immutable('source', 'it says what the disk was made from; declare a new DiskImage with the other source.'),
    ),
  })
  .transform(toUnion)
  .prefault({ type: 'blank' });

export type DiskImageSource =
  | { type: 'blank' }
  | { type: 'diskImage'; diskImage: { name: string } }
  | { type: 'diskSnapshot'; diskSnapshot: { name: string } };

interface SourceFields {
  type: DiskImageSource['type'];
  diskImage?: { name: string } | undefined;
  diskSnapshot?: { name: string } | undefined;
}

function toUnion({ type, diskImage, diskSnapshot }: SourceFields, context: z.RefinementCtx): DiskImageSource {
  if (type === 'blank') return { type };
  if (type === 'diskImage' && diskImage) return { type, diskImage };
  if (type === 'diskSnapshot' && diskSnapshot) return { type, diskSnapshot };
  context.addIssue({ code: 'custom', message: `of type '${type}' has no member of that name` });
  return z.NEVER;
}
