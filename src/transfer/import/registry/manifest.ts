import { createHash } from 'node:crypto';
import * as z from 'zod';
import { isLaminaError, LaminaError } from '../../../lib/errors.ts';
import { parseJson } from '../../../lib/parse-json.ts';
import { persist } from '../../persist.ts';
import type { ImportContext } from '../import-request.ts';
import type { ImageReference } from './image-reference.ts';
import type { RegistryClient } from './registry-client.ts';

const mediaTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];
const digestSchema = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const descriptorSchema = z.object({ mediaType: z.string(), digest: digestSchema, size: z.int().nonnegative() });
const platformSchema = z.object({ os: z.string(), architecture: z.string() });
const indexSchema = z.object({
  manifests: z.array(descriptorSchema.extend({ platform: platformSchema.optional() })),
});
const manifestSchema = z.object({ layers: z.array(descriptorSchema) });

export type Descriptor = z.infer<typeof descriptorSchema>;
type Candidate = z.infer<typeof indexSchema>['manifests'][number];

/** What Node calls processors, as container images call them. */
const architectures: Record<string, string> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

export interface ImageContent {
  /** Of what the reference stands for at present. */
  digest: string;
  /** From the lowest to the topmost. */
  layers: readonly Descriptor[];
}

/**
 * Finds out what a container image consists of; of several, that for this machine's processor.
 *
 * @param machine Node's name of the processor
 * @throws LaminaError `source-unavailable`, `source-denied`; `checksum-mismatch` where the registry has something else
 *   under a digest; `image-refused` where it is no container image
 */
export async function resolveImage(
  { clock }: Pick<ImportContext, 'clock'>,
  client: RegistryClient,
  {
    image,
    reference,
    machine,
    signal,
  }: { image: string; reference: ImageReference; machine: string; signal: AbortSignal },
): Promise<ImageContent> {
  const passes = (error: unknown) => isLaminaError(error, 'source-unavailable');
  const get = async (version: string, digest: string | null): Promise<{ digest: string; value: unknown }> => {
    let bytes = Buffer.alloc(0);
    await persist({ clock, signal, passes, offsetBytes: () => 0 }, async () => {
      bytes = Buffer.from(await client.manifest(version, mediaTypes));
    });
    const found = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    if (digest === null || found === digest) return { digest: found, value: parseJson(bytes.toString('utf8')) };
    throw new LaminaError('checksum-mismatch', `${image}: the registry has ${found} where ${digest} is wanted`);
  };
  const top = await get(reference.version, reference.digest);
  const index = indexSchema.safeParse(top.value).data;
  const chosen = index && choose(index.manifests, machine, image).digest;
  const { value } = chosen === undefined ? top : await get(chosen, chosen);
  const manifest = manifestSchema.safeParse(value).data;
  if (manifest) return { digest: top.digest, layers: manifest.layers };
  throw new LaminaError('image-refused', `${image} is no container image whose manifest is understood`);
}

function choose(candidates: readonly Candidate[], machine: string, image: string): Candidate {
  const architecture = architectures[machine] ?? machine;
  // What goes with an image, such as how it was built, is of the architecture "unknown".
  const images = candidates.filter(({ platform }) => platform?.architecture !== 'unknown');
  const fits = images.find(({ platform }) => platform?.os === 'linux' && platform.architecture === architecture);
  const [first] = images;
  // A disk image is often published for one processor, and nobody says for which.
  if (!fits && images.length === 1 && first?.platform === undefined && first) return first;
  if (fits) return fits;
  const there = images.map(({ platform }) => `${platform?.os}/${platform?.architecture}`).join(', ') || 'none';
  throw new LaminaError('image-refused', `${image} has no image for linux/${architecture}; there are: ${there}`);
}
