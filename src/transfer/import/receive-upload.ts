import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import { imageIdOf } from '../../store/ids.ts';
import type { Pool } from '../../store/pool.ts';
import { commitBytes } from '../layers/incoming-layer.ts';
import { poolFull } from '../pool-full.ts';
import type { UploadPart } from '../users/take-upload.ts';
import { abortable, blocksOf } from './blocks.ts';
import type { Fetched } from './fetch-http.ts';
import type { ImportContext, ImportRequest, UploadSource } from './import-request.ts';
import { discardImage, IncomingImage, type KeptFile, keptFile } from './incoming-image.ts';
import { unpack } from './unpack.ts';

/** The image that somebody uploads the file of. */
export interface AwaitedImage {
  /** As of the import. */
  name: string;
  source: UploadSource;
}

/** What tells the file from one that was uploaded for another object of the same name. */
function sourceId({ objectId, checksum }: UploadSource): string {
  return JSON.stringify({ upload: objectId, checksum });
}

/** How much of an upload is kept, after a restart as well; null for nothing. */
export async function keptUpload(pool: Pool, { name, source }: AwaitedImage): Promise<KeptFile | null> {
  return keptFile(pool, imageIdOf(name), sourceId(source));
}

/**
 * Takes the file of an image, or what follows of it, into `incoming`; importImage makes the image of it when it is whole.
 * What has come is kept where it breaks off; nothing is where the pool is full or the checksum another one.
 *
 * @param onProgress called with how much there is
 * @throws LaminaError `pool-full`, `checksum-mismatch`; `invalid-parameter` where it does not follow what there is, or is not
 *   as long as was said; `busy`, `name-taken` where all of it has come
 */
export async function receiveUpload(
  context: ImportContext,
  image: AwaitedImage,
  bytes: AsyncIterable<Buffer>,
  { onProgress, ...part }: UploadPart & { onProgress: (receivedBytes: number) => void },
): Promise<void> {
  const { pool } = context;
  const id = imageIdOf(image.name);
  await context.lock(id, async () => {
    // What was sent at the same time may have come before.
    if (pool.images.has(id)) throw new LaminaError('name-taken', `the image ${id} has its content already`);
    const checksums = [image.source.checksum, part.checksum].filter((each) => each !== null);
    const { signal } = part;
    const incoming = await IncomingImage.open(pool, id, sourceId(image.source), { checksums, signal });
    try {
      context.checkpoint('import-image/begun');
      await receive(context, incoming, bytes, { ...part, onProgress });
      for (const checksum of checksums) incoming.assertChecksum(checksum, 'what was uploaded');
      await incoming.commit(true);
      context.checkpoint('import-image/downloaded');
    } catch (error) {
      const failure = poolFull(error, pool, `the upload of the image ${id}`) ?? error;
      if (isLaminaError(failure, 'pool-full', 'checksum-mismatch')) await discardImage(pool, id);
      else if (!incoming.complete) await incoming.commit(false);
      throw failure;
    } finally {
      await incoming.close();
    }
  });
}

async function receive(
  context: ImportContext,
  incoming: IncomingImage,
  bytes: AsyncIterable<Buffer>,
  { fromBytes, totalBytes, signal, onProgress }: Omit<UploadPart, 'checksum'> & { onProgress: (bytes: number) => void },
): Promise<void> {
  if (incoming.complete) throw new LaminaError('busy', 'all of it has come, and is being made into the disk image');
  if (fromBytes === 0) await incoming.restart();
  if (fromBytes !== incoming.offsetBytes) {
    throw new LaminaError(
      'invalid-parameter',
      `${incoming.offsetBytes} bytes have come, and these begin at ${fromBytes}`,
    );
  }
  if (totalBytes !== null) await context.space.assertRoom(totalBytes - fromBytes);
  for await (const block of blocksOf(abortable(bytes, signal), signal)) {
    if (totalBytes !== null && incoming.offsetBytes + block.length > totalBytes) {
      throw new LaminaError('invalid-parameter', `more comes than the ${totalBytes} bytes that were said`);
    }
    await context.limit.take(block.length, signal);
    if (await incoming.write(block)) {
      context.checkpoint('import-image/progressed');
      await context.space.assertRoom(commitBytes);
    }
    onProgress(incoming.offsetBytes);
  }
  if (totalBytes !== null && incoming.offsetBytes < totalBytes) {
    throw new LaminaError(
      'invalid-parameter',
      `${incoming.offsetBytes} of the ${totalBytes} bytes that were said have come: send what follows`,
    );
  }
}

/** What was uploaded, unpacked where it is compressed. @throws LaminaError `source-unavailable` where that is not all; as unpack */
export async function fetchUpload(
  context: ImportContext,
  request: ImportRequest,
  source: UploadSource,
): Promise<Fetched> {
  const { name, signal } = request;
  const incoming = await IncomingImage.open(context.pool, imageIdOf(name), sourceId(source), { signal });
  try {
    if (!incoming.complete) throw new LaminaError('source-unavailable', 'the upload is not complete: send it again');
    return { file: await unpack(context, request, incoming.file), digest: incoming.digest };
  } finally {
    await incoming.close();
  }
}
