import { isLaminaError, messageOf } from '../../lib/errors.ts';
import { imageIdOf } from '../../store/ids.ts';
import { createImage } from '../../store/images.ts';
import type { ImageId, ImageRecord } from '../../store/records.ts';
import { poolFull } from '../pool-full.ts';
import { acceptImage, layerSize } from './accept-image.ts';
import { buildLayer } from './build-layer.ts';
import { type Fetched, fetchHttp } from './fetch-http.ts';
import { fetchContained } from './registry/fetch-contained.ts';
import { type ImportContext, type ImportRequest, isFinalImportFailure } from './import-request.ts';
import { discardImage } from './incoming-image.ts';
import { fetchUpload } from './receive-upload.ts';

/**
 * Makes a sealed image of a file on a web server, in a container image or that was uploaded, or finds the one of that name: fetches it into
 * `incoming`, compares its checksum, unpacks it where it is compressed, looks whether it can do harm, and makes a layer of
 * it. What has come is kept where the source fails, the call is aborted or the process dies, and the next call goes on
 * with it; nothing is kept where the pool is full, nor of what is refused.
 *
 * @throws LaminaError `source-unavailable`, `source-denied`, `checksum-mismatch`, `image-refused`, `size-out-of-range`, `pool-full`,
 *   `import-failed` and the codes of tools; isFinalImportFailure tells which are final. The reason of the request's signal.
 */
export async function importImage(context: ImportContext, request: ImportRequest): Promise<ImageRecord> {
  const { pool } = context;
  const id = imageIdOf(request.name);
  request.onProgress?.({ stage: 'waiting', doneBytes: 0, totalBytes: null });
  return context.gate.run(request.signal, () =>
    context.lock(id, async () => {
      const existing = pool.images.get(id);
      try {
        const image = existing ?? (await importNew(context, request, id));
        await discardImage(pool, id);
        return image;
      } catch (error) {
        return await afterFailure(context, id, error);
      }
    }),
  );
}

/** Removes what came of an image that nobody wants any more. Idempotent; the import must have ended. */
export async function discardImport(context: Pick<ImportContext, 'pool' | 'lock'>, name: string): Promise<void> {
  const id = imageIdOf(name);
  await context.lock(id, () => discardImage(context.pool, id));
}

async function importNew(context: ImportContext, request: ImportRequest, id: ImageId): Promise<ImageRecord> {
  const { pool, checkpoint } = context;
  const { file, digest } = await fetchSource(context, request);
  checkpoint('import-image/unpacked');
  const accepted = await acceptImage(file, request);
  const sizeBytes = layerSize(accepted, request);
  checkpoint('import-image/accepted');
  const facts = { id, name: request.name, filesystem: null, digest };
  return createImage(pool, facts, {
    format: request.format,
    parent: null,
    sizeBytes,
    sealed: true,
    build: (target) => buildLayer(context, request, { source: file, accepted, target: { file: target, sizeBytes } }),
  });
}

function fetchSource(context: ImportContext, request: ImportRequest): Promise<Fetched> {
  const { source } = request;
  switch (source.kind) {
    case 'http':
      return fetchHttp(context, request, source);
    case 'registry':
      return fetchContained(context, request, source);
    case 'upload':
      return fetchUpload(context, request, source);
  }
}

async function afterFailure({ pool }: ImportContext, id: ImageId, error: unknown): Promise<never> {
  const failure = poolFull(error, pool, `the image ${id}: ${messageOf(error)}`) ?? error;
  if (isLaminaError(failure, 'pool-full') || isFinalImportFailure(failure)) await discardImage(pool, id);
  throw failure;
}
