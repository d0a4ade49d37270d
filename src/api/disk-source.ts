import * as z from 'zod';
import { namespaceName, patternedText, subdomain } from './fields.ts';
import { immutable, withRules } from './rule.ts';

const nameOf = (description: string) => subdomain.meta({ description }).optional();

const reference = (kind: string, what: string) =>
  z
    .object({
      name: subdomain.meta({ description: `Name of the ${kind}.` }),
      namespace: namespaceName
        .meta({
          description:
            'Namespace of it; left out, it is in that of the DiskImage. Only DiskImages in the namespace of the system may name another one.',
        })
        .optional(),
    })
    .meta({ description: `With type ${kind.charAt(0).toLowerCase()}${kind.slice(1)}: ${what}` });

const localReference = (kind: string, what: string) =>
  z
    .object({ name: subdomain.meta({ description: `Name of a ${kind} in the same namespace, of this driver.` }) })
    .meta({ description: `With type ${kind.charAt(0).toLowerCase()}${kind.slice(1)}: ${what}` });

const certificateAuthority = nameOf(
  'Name of a ConfigMap in the same namespace, whose key ca.crt holds the certificates to trust, in PEM, instead of those that all programs trust.',
);

const checksumField = (what: string, from: string) =>
  patternedText({
    description: `${what}, as sha256:HEX or sha512:HEX. Of a compressed file it is the checksum of the file as it is, not of what is inside.`,
    maxLength: 135,
    pattern: /^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/,
    message: `checksum must be sha256: and 64 or sha512: and 128 hexadecimal digits, in lower case: ${from}.`,
  }).optional();

const httpSchema = z
  .object({
    url: patternedText({
      description: 'Where the file is. Redirects are followed; credentials go into headersSecret.',
      maxLength: 2048,
      pattern: /^https?:\/\/[^/?#@\s]+([/?][^#\s]*)?$/,
      message:
        'url must be an http or https URL without user, password and fragment: write one such as https://images.example.org/debian.qcow2, and put credentials into headersSecret.',
    }),
    checksum: checksumField('What the bytes at the URL must add up to', 'take it from where the image is published'),
    headersSecret: nameOf(
      'Name of a Secret in the same namespace, of which each key is a header to send, such as Authorization.',
    ),
    certificateAuthority,
  })
  .meta({
    description:
      'With type http: the file to import. It is qcow2, raw, vmdk, vdi or vhdx, as it is or compressed with gzip, xz or zstd.',
  });

const registrySchema = z
  .object({
    image: patternedText({
      description:
        'Reference of a container image that holds a disk image. With @sha256:DIGEST at its end it is the same for ever.',
      maxLength: 512,
      // The registry is not to be guessed, so that nobody else's image is taken.
      pattern:
        /^([^/@\s]*[.:][^/@\s]*|localhost)(\/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[\w][\w.-]*)?(@sha256:[0-9a-f]{64})?$/,
      message:
        'image must be a reference that begins with its registry: write one such as registry.example.org/images/debian:13, without docker:// in front.',
    }),
    path: patternedText({
      description: 'Where the disk image is in the container image; left out, it is the one file in /disk.',
      maxLength: 1024,
      pattern: /^(\/[^/\s]+)+$/,
      message: 'path must be that of a file, from the root: write one such as /disk/debian.qcow2, or leave it out.',
    }).optional(),
    pullSecret: nameOf('Name of a Secret in the same namespace, of the type kubernetes.io/dockerconfigjson.'),
    certificateAuthority,
  })
  .meta({ description: 'With type registry: the container image to import from.' });

const uploadSchema = z
  .object({
    checksum: checksumField(
      'What the file that is uploaded must add up to',
      'sha256sum and sha512sum tell it of the file',
    ),
  })
  .meta({
    description:
      'With type upload: whoever may update the subresource upload of the DiskImage sends the file to its node, as kubectl lamina upload does. It is of a format as with http.',
  });

/** What a disk can start from, but for `blank`: the member that each value of `type` has. */
const members = {
  diskImage: reference('DiskImage', 'the disk to copy.'),
  diskSnapshot: reference('DiskSnapshot', 'the snapshot to copy.'),
  http: httpSchema,
  registry: registrySchema,
  upload: uploadSchema,
  persistentVolumeClaim: localReference('PersistentVolumeClaim', 'the claim whose volume to copy.'),
  volumeSnapshot: localReference('VolumeSnapshot', 'the snapshot to copy.'),
};
type Members = typeof members;
type MemberName = keyof Members;
const memberNames = Object.keys(members) as MemberName[];
export const sourceTypes = ['blank', ...memberNames] as const;

/** What is brought in from outside of Lamina, for which it has to be sealed. */
const importedSources = ['http', 'registry', 'upload'] as const;
export type ImportedSource = Extract<DiskImageSource, { type: (typeof importedSources)[number] }>;

/** Sources of golden images, which are sealed unless it is said otherwise. */
const sealedSources = [...importedSources, 'persistentVolumeClaim', 'volumeSnapshot'] as const;

export function isImported(source: DiskImageSource): source is ImportedSource {
  return importedSources.some((type) => type === source.type);
}

/** Of a spec in CEL. */
export const isImportedRule = `self.source.type in [${importedSources.map((type) => `'${type}'`).join(', ')}]`;

/** Whether a DiskImage is sealed that does not say so. */
export function isSealedByDefault(type: DiskImageSource['type']): boolean {
  return sealedSources.some((sealed) => sealed === type);
}

/** The same in CEL, of a spec with what it says itself. */
export function isSealedRule(spec: string): string {
  const types = sealedSources.map((type) => `'${type}'`).join(', ');
  return `(has(${spec}.sealed) ? ${spec}.sealed : ${spec}.source.type in [${types}])`;
}

const memberRules = memberNames.map((member) => ({
  rule: `has(self.${member}) == (self.type == '${member}')`,
  message: `source.${member} belongs to source.type '${member}', and to no other: give the member that is named as the type is, and only that one.`,
  fieldPath: `.${member}`,
}));

/**
 * An enum and one optional member for each of its values, as unions are written in Kubernetes' schemas. New versions
 * add values and members; a client must expect new ones.
 */
export const sourceField = z
  .object({
    type: z.enum(sourceTypes).meta({
      description:
        'What the disk starts from. blank: nothing, it reads as zeroes. diskImage: another disk as it is now. diskSnapshot: a disk as it was. http: a disk image on a web server. registry: one in a container image. upload: one that is sent to the node. persistentVolumeClaim: a volume as it is now. volumeSnapshot: a volume as it was. Disks and volumes are copied in a blink at any size, as the copy shares what is not changed.',
    }),
    diskImage: members.diskImage.optional(),
    diskSnapshot: members.diskSnapshot.optional(),
    http: members.http.optional(),
    registry: members.registry.optional(),
    upload: members.upload.optional(),
    persistentVolumeClaim: members.persistentVolumeClaim.optional(),
    volumeSnapshot: members.volumeSnapshot.optional(),
  } satisfies { type: z.ZodType } & { [Name in MemberName]: z.ZodOptional<Members[Name]> })
  .meta({
    description: 'What the disk starts from; it cannot be changed later.',
    ...withRules(
      ...memberRules,
      immutable('source', 'it says what the disk was made from; declare a new DiskImage with the other source.'),
    ),
  })
  .transform(toUnion)
  .prefault({ type: 'blank' });

type MemberOf<Name extends MemberName> = { type: Name } & { [Member in Name]: z.output<Members[Name]> };

/** `{type: 'http', http: {…}}`: the member that belongs to the type, and no other. */
export type DiskImageSource = { type: 'blank' } | { [Name in MemberName]: MemberOf<Name> }[MemberName];

type SourceFields = { type: DiskImageSource['type'] } & { [Name in MemberName]?: unknown };

function toUnion(source: SourceFields, context: z.RefinementCtx): DiskImageSource {
  const { type } = source;
  if (type === 'blank') return { type };
  const member = source[type];
  if (member !== undefined) return { type, [type]: member } as DiskImageSource;
  context.addIssue({ code: 'custom', message: `of type '${type}' has no member of that name` });
  return z.NEVER;
}
