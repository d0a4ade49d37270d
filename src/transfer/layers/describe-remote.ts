import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { LaminaError } from '../../lib/errors.ts';
import { type ChainDescription, parseChainDescription, type SealedKind } from './chain-description.ts';
import { errorInAnswer } from '../http-answers.ts';
import { layerRequestPath } from './layer-request.ts';
import { connectionFailure, connectOptions, type PeerConnection, stalled } from './peer.ts';

/** More is no description of a chain. */
const maxAnswerBytes = 4 * 1024 * 1024;

/**
 * Asks a node what a snapshot or an image consists of.
 * @throws LaminaError `snapshot-not-found`, `peer-unavailable`, `peer-untrusted`, `peer-invalid`
 */
export async function describeRemote(
  connection: PeerConnection,
  { pool, kind, id }: { pool: string; kind: SealedKind; id: string },
): Promise<ChainDescription> {
  const { status, body } = await get(connection, layerRequestPath(pool, kind, id)).catch((error: unknown) => {
    throw connectionFailure(connection, error);
  });
  if (status !== 200) throw errorInAnswer(status, body);
  const description = parseChainDescription(parseJson(body));
  if (description.kind === kind && description.id === id) return description;
  throw new LaminaError('peer-invalid', `the peer described ${description.kind} ${description.id}, not ${kind} ${id}`);
}

async function get(connection: PeerConnection, path: string): Promise<{ status: number; body: string }> {
  const { signal, stallMs } = connection;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const asked = request({ ...connectOptions(connection), agent: false, path, signal, timeout: stallMs });
  asked.once('response', resolve).once('error', reject);
  asked.once('timeout', () => asked.destroy(stalled(connection)));
  asked.end();
  const response = await promise;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new LaminaError('peer-invalid', 'the peer’s answer does not end');
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new LaminaError('peer-invalid', 'the peer’s answer is not JSON');
  }
}
