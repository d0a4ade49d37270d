import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import { errnoOf, isLaminaError, LaminaError, messageOf } from '../../../lib/errors.ts';
import { decompress } from '../decompress.ts';
import { type ImportContext, type ImportRequest, sourceName } from '../import-request.ts';
import { mostUnpackedBytes, readCompression, writeUnpacked } from '../unpack.ts';

/** What is deleted in a layer stands in it as a file of the same name behind this; in a directory, as this twice and `opq`. */
const whiteout = '.wh.';
const opaque = '.wh..wh..opq';
const inDisk = 'disk/';
/** More is no image's: /disk holds one file or a few, and what is deleted there is remembered. */
const maxDeleted = 1000;

/** What a layer says of the file that is looked for. */
export interface LayerContent {
  /** The file, extracted; null: it is not in this layer. */
  file: string | null;
  /** Nothing of the layers below shows. */
  hidden: boolean;
  /** Files in /disk of the layers below that do not show. */
  deleted: string[];
}

/**
 * Takes one file out of a layer of a container image: at `path`, or the one in /disk. Nothing else of it is kept.
 *
 * @param blob the layer, a tar archive that may be compressed with gzip or zstd
 * @param gone what a layer above has deleted
 * @throws LaminaError `image-refused` where it is no such archive, or has several files to choose from; as unpack does
 */
export async function extractFile(
  context: ImportContext,
  request: ImportRequest,
  blob: string,
  { path, gone }: { path: string | null; gone: ReadonlySet<string> },
): Promise<LayerContent> {
  const source = await open(blob, 'r');
  const tar = extract();
  const found: LayerContent = { file: null, hidden: false, deleted: [] };
  try {
    const fed = pipeline(await piecesOf(context, request, source), tar);
    // It is waited for at the end, whatever happens meanwhile.
    fed.catch(() => {});
    try {
      for await (const entry of tar) {
        const name = plainName(entry.header);
        if (hides(name, path)) found.hidden = true;
        if (name.startsWith(inDisk + whiteout)) found.deleted.push(inDisk + name.slice((inDisk + whiteout).length));
        if (found.deleted.length > maxDeleted) throw tooManyDeleted(request);
        if (isWanted(name, path) && !gone.has(name) && isFile(entry.header, request)) {
          if (found.file !== null) throw several(request);
          found.file = await writeUnpacked(context, request, entry as AsyncIterable<Buffer>, blob);
        }
        entry.resume();
      }
    } catch (error) {
      tar.destroy();
      await fed.catch(() => {});
      throw error;
    }
    await fed;
    return found;
  } catch (error) {
    request.signal.throwIfAborted();
    throw isLaminaError(error) || /^E[A-Z0-9]+$/.test(errnoOf(error) ?? '') ? error : noArchive(request, error);
  } finally {
    await source.close();
  }
}

async function piecesOf(
  context: ImportContext,
  request: ImportRequest,
  source: Awaited<ReturnType<typeof open>>,
): Promise<AsyncIterable<Buffer>> {
  const compression = await readCompression(source);
  if (compression === null) return source.createReadStream({ start: 0, autoClose: false }) as AsyncIterable<Buffer>;
  const limitBytes = await mostUnpackedBytes(context, request);
  return decompress({ source, compression, limitBytes, name: sourceName(request.source), signal: request.signal });
}

function plainName({ name }: Header): string {
  return name.replace(/^(\.?\/)+/, '').replace(/\/+$/, '');
}

function isWanted(name: string, path: string | null): boolean {
  if (path !== null) return name === path.slice(1);
  const [directory, file, ...rest] = name.split('/');
  return directory === 'disk' && file !== undefined && !file.startsWith(whiteout) && rest.length === 0;
}

/** Whether an entry says that what is looked for is deleted, or a directory that it would be in. */
function hides(name: string, path: string | null): boolean {
  const parts = (path === null ? '/disk/' : path).split('/').slice(1);
  return parts.some((part, depth) => {
    const directory = parts
      .slice(0, depth)
      .map((each) => `${each}/`)
      .join('');
    return name === `${directory}${opaque}` || (part !== '' && name === `${directory}${whiteout}${part}`);
  });
}

function isFile({ type, name }: Header, request: ImportRequest): boolean {
  if (type === 'directory') return false;
  if (type === 'file' || type === 'contiguous-file') return true;
  throw new LaminaError('image-refused', `${sourceName(request.source)}: /${name} is no file in it, but a ${type}`);
}

function several(request: ImportRequest): LaminaError {
  return new LaminaError(
    'image-refused',
    `${sourceName(request.source)} has several files in /disk: name the path of one`,
  );
}

function tooManyDeleted({ source }: ImportRequest): LaminaError {
  return new LaminaError('image-refused', `${sourceName(source)} deletes more than ${maxDeleted} files in /disk`);
}

function noArchive(request: ImportRequest, cause: unknown): LaminaError {
  const name = sourceName(request.source);
  return new LaminaError('image-refused', `${name} has a layer that is no tar archive: ${messageOf(cause)}`, { cause });
}
