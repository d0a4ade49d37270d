import { imageIdOf } from '../../store/ids.ts';
import { download, type Remote } from './download.ts';
import type { HttpSource, ImportContext, ImportRequest } from './import-request.ts';
import { IncomingImage } from './incoming-image.ts';
import { unpack } from './unpack.ts';

/** A file to look at, in the folder of what comes in, and `sha256:…` of what it was made of. */
export interface Fetched {
  file: string;
  digest: string;
}

/**
 * Fetches the file at an URL, compares its checksum, and unpacks it where it is compressed.
 * @throws LaminaError as download and unpack do, and `checksum-mismatch`
 */
export async function fetchHttp(
  context: ImportContext,
  request: ImportRequest,
  { url, checksum, headers, certificateAuthority }: HttpSource,
): Promise<Fetched> {
  const remote: Remote = { url, certificateAuthority, headers: async () => headers, fixedBytes: null };
  const { file, digest } = await fetchFile(context, request, {
    remote,
    id: JSON.stringify({ url, checksum }),
    checksum,
  });
  context.checkpoint('import-image/downloaded');
  return { file: await unpack(context, request, file), digest };
}

interface Wanted {
  remote: Remote;
  /** What tells it from other files. */
  id: string;
  checksum: string | null;
}

/** Fetches a file whole, and compares its checksum. */
export async function fetchFile(
  context: ImportContext,
  request: ImportRequest,
  { remote, id, checksum }: Wanted,
): Promise<Fetched> {
  const checksums = checksum === null ? [] : [checksum];
  const { signal } = request;
  const incoming = await IncomingImage.open(context.pool, imageIdOf(request.name), id, { checksums, signal });
  try {
    context.checkpoint('import-image/begun');
    if (!incoming.complete) {
      await download(context, { ...request, remote }, incoming);
      await incoming.commit(true);
    }
    for (const each of checksums) incoming.assertChecksum(each, remote.url);
    return { file: incoming.file, digest: incoming.digest };
  } finally {
    await incoming.close();
  }
}
