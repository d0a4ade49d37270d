import type { IncomingMessage, ServerResponse } from 'node:http';
import { LaminaError } from '../../lib/errors.ts';
import { parseContentRange } from './byte-range.ts';
import { answerJson } from '../http-answers.ts';

/** What takes the file of an image that somebody uploads. */
export interface UploadSink {
  /** So much has come and is kept; an upload goes on from here. */
  readonly receivedBytes: number;
  /**
   * Takes the bytes of the file from `fromBytes` on, which is where it was, or 0 to begin anew; keeps what has come where
   * they break off. Resolves when all of the file is there.
   * @throws LaminaError `pool-full`, `busy`, and what the file is refused for
   */
  take(bytes: AsyncIterable<Buffer>, upload: UploadPart): Promise<void>;
}

export interface UploadPart {
  fromBytes: number;
  /** Of the whole file; null where the sender does not know. */
  totalBytes: number | null;
  /** `sha256:HEX` or `sha512:HEX` of the whole file; null where the sender does not say. */
  checksum: string | null;
  signal: AbortSignal;
}

export function uploadOffset({ receivedBytes }: UploadSink): Record<string, string> {
  return { 'upload-offset': String(receivedBytes), 'cache-control': 'no-store' };
}

/**
 * Takes a whole file, or with `Content-Range` what is missing of it: `curl -T FILE`, and to go on after a broken
 * connection `curl -T FILE --continue-at OFFSET` with the offset that HEAD tells. `Repr-Digest` (RFC 9530) says what the
 * whole file adds up to.
 *
 * @throws LaminaError `invalid-parameter` for another part than the next one; what the sink throws
 */
export async function takeUpload(
  sink: UploadSink,
  request: IncomingMessage,
  response: ServerResponse,
  { signal, onBytes }: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<void> {
  const { start, totalBytes } = part(request);
  const checksum = checksumIn(request.headers['repr-digest']);
  for (const [name, value] of Object.entries(uploadOffset(sink))) response.setHeader(name, value);
  if (start !== sink.receivedBytes && start !== 0) {
    throw new LaminaError(
      'invalid-parameter',
      `${sink.receivedBytes} bytes have come already, and these begin at ${start}: send what follows (curl --continue-at ${sink.receivedBytes}), or all`,
    );
  }
  if (request.headers.expect !== undefined) response.writeContinue();
  // What follows is still to be read where the sink does not take it.
  const bytes = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  await sink.take(counted(bytes, onBytes), { fromBytes: start, totalBytes, checksum, signal });
  response.setHeader('upload-offset', String(sink.receivedBytes));
  answerJson(response, 200, { receivedBytes: sink.receivedBytes });
}

async function* counted(bytes: AsyncIterable<Buffer>, onBytes: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const chunk of bytes) {
    onBytes(chunk.length);
    yield chunk;
  }
}

function part({ headers }: IncomingMessage): { start: number; totalBytes: number | null } {
  const length = headers['content-length'] === undefined ? null : Number(headers['content-length']);
  const header = headers['content-range'];
  if (header === undefined) return { start: 0, totalBytes: length };
  const range = parseContentRange(header);
  if (range && range.end === range.totalBytes && (length === null || length === range.end - range.start)) return range;
  throw new LaminaError('invalid-parameter', `Content-Range: '${header}' does not say which bytes up to the end come`);
}

const digestNames = { 'sha-256': ['sha256', 32], 'sha-512': ['sha512', 64] } as const;

/** @throws LaminaError `invalid-parameter` for a digest that is none; other algorithms are passed over */
function checksumIn(header: string | string[] | undefined): string | null {
  const given = [header ?? []].flat().join(',');
  for (const [, name = '', base64 = ''] of given.matchAll(/([a-z0-9-]+)=:([A-Za-z0-9+/=]*):/g)) {
    const known = digestNames[name as keyof typeof digestNames] as
      | (typeof digestNames)['sha-256' | 'sha-512']
      | undefined;
    if (!known) continue;
    const digest = Buffer.from(base64, 'base64');
    if (digest.length === known[1]) return `${known[0]}:${digest.toString('hex')}`;
    throw new LaminaError('invalid-parameter', `Repr-Digest: '${given}' has no digest of ${known[1]} bytes`);
  }
  return null;
}
