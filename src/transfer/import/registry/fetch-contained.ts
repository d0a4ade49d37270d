import { LaminaError } from '../../../lib/errors.ts';
import { type Fetched, fetchFile } from '../fetch-http.ts';
import type { ImportContext, ImportRequest, RegistrySource } from '../import-request.ts';
import { extractFile } from './extract-file.ts';
import { parseImageReference } from './image-reference.ts';
import { type Descriptor, resolveImage } from './manifest.ts';
import { loginFor } from './pull-secret.ts';
import { RegistryClient } from './registry-client.ts';

/** Archives; not what is fetched from elsewhere, nor what is no file system. */
const layerType = /^application\/vnd\.(oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)([.+](gzip|zstd))?$/;

/**
 * Fetches the disk image that is in a container image: layer by layer from the topmost, until one has it. What has come
 * of a layer is gone on with where nothing but that came since.
 *
 * @returns the file, and the digest of the container image
 * @throws LaminaError as fetchFile, resolveImage and extractFile do, `invalid-parameter` for the reference
 */
export async function fetchContained(
  context: ImportContext,
  request: ImportRequest,
  source: RegistrySource,
): Promise<Fetched> {
  const { image, certificateAuthority } = source;
  const { signal } = request;
  const reference = parseImageReference(image);
  const login = loginFor(source.pullSecret, reference);
  const client = new RegistryClient(context, { reference, login, certificateAuthority, signal });
  const { digest, layers } = await resolveImage(context, client, { image, reference, machine: process.arch, signal });
  const gone = new Set<string>();
  for (const layer of layers.toReversed()) {
    assertLayer(layer, image);
    const remote = client.blob(layer.digest, layer.size);
    const { file: blob } = await fetchFile(context, request, { remote, id: layer.digest, checksum: layer.digest });
    context.checkpoint('import-image/downloaded');
    const found = await extractFile(context, request, blob, { path: source.path, gone });
    if (found.file !== null) return { file: found.file, digest };
    if (found.hidden) break;
    for (const name of found.deleted) gone.add(name);
  }
  throw new LaminaError(
    'image-refused',
    `${image} has no file ${source.path ?? 'in /disk'}: name the path of the disk image`,
  );
}

function assertLayer({ mediaType }: Descriptor, image: string): void {
  if (layerType.test(mediaType)) return;
  throw new LaminaError('image-refused', `${image} has a layer of the type ${mediaType}, which is not imported`);
}
