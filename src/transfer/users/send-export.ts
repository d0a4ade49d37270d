import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { TokenBucket } from '../../lib/token-bucket.ts';
import { type ByteRange, parseRange } from './byte-range.ts';
import type { DiskExport } from './disk-export.ts';

export interface SendOptions {
  /** What a browser would save it as. */
  fileName: string;
  limit: TokenBucket;
  /** Called for what is sent; null: only what would be is told. */
  onBytes: ((bytes: number) => void) | null;
  signal: AbortSignal;
}

/** Answers with the file or the range of it that is asked for, as RFC 9110 has it, If-Match and If-Range included. */
export async function sendExport(
  disk: DiskExport,
  options: SendOptions,
  { headers }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const etag = `"${disk.etag}"`;
  response.setHeader('accept-ranges', 'bytes');
  response.setHeader('etag', etag);
  if (headers['if-match'] !== undefined && !lists(headers['if-match'], etag)) {
    response.writeHead(412).end();
    return;
  }
  const unchanged = headers['if-range'] === undefined || headers['if-range'] === etag;
  // HEAD asks for no range, whatever its header says (RFC 9110, 14.2).
  const range = unchanged && options.onBytes ? parseRange(headers.range, disk.sizeBytes) : null;
  if (range === 'unsatisfiable') {
    response.writeHead(416, { 'content-range': `bytes */${disk.sizeBytes}` }).end();
    return;
  }
  const { start, end } = range ?? { start: 0, end: disk.sizeBytes };
  if (range) response.setHeader('content-range', `bytes ${start}-${end - 1}/${disk.sizeBytes}`);
  response.writeHead(range ? 206 : 200, {
    'content-type': 'application/octet-stream',
    'content-disposition': `attachment; filename="${options.fileName}"`,
    'content-length': end - start,
  });
  if (!options.onBytes) response.end();
  else await pipeline(Readable.from(pieces(disk, { start, end }, options), { highWaterMark: 2 }), response);
}

async function* pieces(disk: DiskExport, { start, end }: ByteRange, { limit, onBytes, signal }: SendOptions) {
  for await (const bytes of disk.read(start, end)) {
    await limit.take(bytes.length, signal);
    yield bytes;
    onBytes?.(bytes.length);
  }
}

function lists(header: string, etag: string): boolean {
  return header.split(',').some((each) => each.trim() === etag || each.trim() === '*');
}
