import * as z from 'zod';
import { LaminaError } from '../lib/errors.ts';
import { diskImageKind } from './disk-image.ts';
import { diskPoolKind } from './disk-pool.ts';
import { diskSnapshotKind } from './disk-snapshot.ts';
import { metadataSchema } from './fields.ts';
import type { Kind } from './kind.ts';
import { apiGroup, apiVersion, groupVersion } from './names.ts';

/** What the API server holds of a kind, sizes in bytes and defaults filled in. */
interface ObjectOf<K extends Kind> {
  apiVersion: typeof groupVersion;
  kind: K['kind'];
  metadata: z.output<typeof metadataSchema>;
  spec: z.output<K['spec']>;
  status: z.output<K['status']>;
}

/** What is sent to the API server: of spec what is wanted, of status what is known. */
interface ManifestOf<K extends Kind> {
  apiVersion: typeof groupVersion;
  kind: K['kind'];
  metadata: { name: string; namespace?: string; [field: string]: unknown };
  spec: z.input<K['spec']>;
  status?: z.input<K['status']>;
}

export type DiskImage = ObjectOf<typeof diskImageKind>;
export type DiskSnapshot = ObjectOf<typeof diskSnapshotKind>;
export type DiskPool = ObjectOf<typeof diskPoolKind>;

export type DiskImageManifest = ManifestOf<typeof diskImageKind>;
export type DiskSnapshotManifest = ManifestOf<typeof diskSnapshotKind>;
export type DiskPoolManifest = ManifestOf<typeof diskPoolKind>;

/** How objects of a kind are addressed, and understood once read. */
interface Resource<K extends Kind> {
  group: string;
  version: string;
  kind: K['kind'];
  plural: string;
  namespaced: boolean;
  /** @throws LaminaError `resource-invalid` that names the object and each field that is not understood */
  parse: (object: unknown) => ObjectOf<K>;
  /** The same for members of the status alone, to compare what is to be written with what is there. */
  parseStatus: (status: unknown) => z.output<K['status']>;
}

export const diskImages: Resource<typeof diskImageKind> = resourceOf(diskImageKind);
export const diskSnapshots: Resource<typeof diskSnapshotKind> = resourceOf(diskSnapshotKind);
export const diskPools: Resource<typeof diskPoolKind> = resourceOf(diskPoolKind);

function resourceOf<K extends Kind>(kind: K): Resource<K> {
  const namespaced = kind.scope === 'Namespaced';
  return {
    group: apiGroup,
    version: apiVersion,
    kind: kind.kind,
    plural: kind.plural,
    namespaced,
    parse: parserOf(kind),
    parseStatus: (status) => kind.status.parse(status) as z.output<K['status']>,
  };
}

function parserOf<K extends Kind>(kind: K): (object: unknown) => ObjectOf<K> {
  const schema = z.object({
    apiVersion: z.literal(groupVersion),
    kind: z.literal(kind.kind),
    metadata: metadataSchema,
    spec: kind.spec,
    // Before anyone has reported on it, there is none.
    status: kind.status.prefault({}),
  });
  return (object) => {
    const result = schema.safeParse(object);
    if (result.success) return result.data as ObjectOf<K>;
    const problems = result.error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`);
    throw new LaminaError(
      'resource-invalid',
      `${nameOf(object, kind.kind)} is not what this version of lamina understands: ${problems.join('; ')}. Install the definitions (crds/) and the program of the same version`,
    );
  };
}

const namedSchema = z.object({ metadata: z.object({ name: z.string(), namespace: z.string().optional() }) });

/** `DiskImage media/debian`, as far as that can be read. */
function nameOf(object: unknown, kind: string): string {
  const { data } = namedSchema.safeParse(object);
  if (!data) return `a ${kind}`;
  const { name, namespace } = data.metadata;
  return `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}
