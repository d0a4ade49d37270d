import type { IncomingMessage } from 'node:http';
import { isLaminaError, LaminaError } from '../../lib/errors.ts';
import { parseContentRange } from '../users/byte-range.ts';
import { persist } from '../persist.ts';
import { commitBytes } from '../layers/incoming-layer.ts';
import { blocksOf } from './blocks.ts';
import { type Get, httpGet, unreachable } from './http-get.ts';
import type { ImportContext, ImportRequest } from './import-request.ts';
import type { IncomingImage } from './incoming-image.ts';

export interface Remote extends Omit<Get['source'], 'headers'> {
  /** Asked for before each connection. */
  headers: () => Promise<Readonly<Record<string, string>>>;
  /** Where the URL says what the bytes are, and no others can come: how many. Null: the file may change. */
  fixedBytes: number | null;
}

export interface Download extends Pick<ImportRequest, 'signal' | 'onProgress'> {
  remote: Remote;
}

/**
 * Brings the file at an URL into `incoming`, whole. Goes on where a broken connection or an earlier process stopped, where
 * the server can tell that the file is still the same; else it begins anew.
 *
 * @throws LaminaError `source-unavailable`, `source-denied`, `pool-full`
 */
export async function download(context: ImportContext, request: Download, incoming: IncomingImage): Promise<void> {
  const persistence = {
    clock: context.clock,
    signal: request.signal,
    passes: (error: unknown) => isLaminaError(error, 'source-unavailable'),
    offsetBytes: () => incoming.offsetBytes,
  };
  await persist(persistence, () => receive(context, request, incoming));
}

/** Over one connection, to its end or as far as it goes. */
async function receive(
  context: ImportContext,
  { remote, signal, onProgress }: Download,
  incoming: IncomingImage,
): Promise<void> {
  const { url, fixedBytes } = remote;
  if (incoming.offsetBytes > 0 && incoming.validator === null && fixedBytes === null) await incoming.restart();
  const source = { ...remote, headers: await remote.headers() };
  const { stallMs, mayReachItself } = context;
  const body = await httpGet({ source, headers: rangeFrom(incoming, remote), stallMs, mayReachItself, signal });
  try {
    const foundBytes = await begin(remote, body, incoming);
    const totalBytes = fixedBytes ?? foundBytes;
    if (totalBytes !== null) await context.space.assertRoom(totalBytes - incoming.offsetBytes);
    onProgress?.({ stage: 'downloading', doneBytes: incoming.offsetBytes, totalBytes });
    for await (const chunk of blocksOf(bodyOf(body, url), signal)) {
      if (totalBytes !== null && incoming.offsetBytes + chunk.length > totalBytes) {
        throw new LaminaError('source-unavailable', `${url} sends more than the ${totalBytes} bytes it promised`);
      }
      await context.limit.take(chunk.length, signal);
      if (await incoming.write(chunk)) {
        context.checkpoint('import-image/progressed');
        await context.space.assertRoom(commitBytes);
      }
      onProgress?.({ stage: 'downloading', doneBytes: incoming.offsetBytes, totalBytes });
    }
    if (totalBytes !== null && incoming.offsetBytes < totalBytes) {
      throw new LaminaError('source-unavailable', `${url} ended after ${incoming.offsetBytes} of ${totalBytes} bytes`);
    }
  } finally {
    body.destroy();
  }
}

async function* bodyOf(body: IncomingMessage, url: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    throw isLaminaError(error) ? error : unreachable(url, error);
  }
}

function rangeFrom({ offsetBytes, validator }: IncomingImage, { fixedBytes }: Remote): Record<string, string> {
  const range = `bytes=${offsetBytes}-`;
  if (offsetBytes === 0) return {};
  return fixedBytes !== null || validator === null ? { range } : { range, 'if-range': validator };
}

/** Takes an answer's head. @returns of how many bytes the whole file is, where it is known */
async function begin(
  { url, fixedBytes }: Remote,
  body: IncomingMessage,
  incoming: IncomingImage,
): Promise<number | null> {
  const { statusCode, headers } = body;
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity' && (statusCode === 200 || statusCode === 206))
    throw new LaminaError('source-denied', `${url} sends its file in the encoding ${encoding}`);
  if (statusCode === 206) {
    const range = parseContentRange(headers['content-range'] ?? '');
    const isRest = range?.start === incoming.offsetBytes && (fixedBytes !== null || isOfSame(body, incoming));
    if (isRest) return range.totalBytes;
    await incoming.restart();
    throw new LaminaError(
      'source-unavailable',
      `${url} answered with another range, or of another file, than was asked for`,
    );
  }
  if (statusCode === 200) {
    if (incoming.offsetBytes > 0) await incoming.restart();
    incoming.validator = validatorOf(body);
    return headers['content-length'] === undefined ? null : Number(headers['content-length']);
  }
  if (statusCode === 416) await incoming.restart();
  throw refusal(url, body);
}

/** What tells whether the file is the same byte for byte; a weak ETag does not. */
function validatorOf({ headers }: IncomingMessage): string | null {
  if (headers['accept-ranges'] === 'none') return null;
  const { etag } = headers;
  if (etag !== undefined) return etag.startsWith('"') ? etag : null;
  return headers['last-modified'] ?? null;
}

/** Servers that know no If-Range give the rest of whatever is there now; most say of which file. */
function isOfSame({ headers }: IncomingMessage, { validator }: IncomingImage): boolean {
  const found = validator?.startsWith('"') ? headers.etag : headers['last-modified'];
  return found === undefined || validator === null || found === validator;
}

/** What a status that is no success means: `source-unavailable` where it may pass, else `source-denied`. */
export function refusal(url: string, { statusCode = 0, statusMessage = '' }: IncomingMessage): LaminaError {
  const passes = statusCode >= 500 || [408, 416, 425, 429].includes(statusCode);
  const what = `${url} answers ${statusCode} ${statusMessage}`.trim();
  return passes
    ? new LaminaError('source-unavailable', what)
    : new LaminaError('source-denied', `${what}: correct where it is, or what is sent to log in`);
}
