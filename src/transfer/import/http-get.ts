import { type ClientRequest, type IncomingMessage, request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { LaminaError, messageOf } from '../../lib/errors.ts';
import type { HttpSource } from './import-request.ts';
import { assertReachable, lookupReachable } from './reachable.ts';
import { shownUrl } from './shown-url.ts';

const maxRedirects = 10;
const redirects: readonly number[] = [301, 302, 303, 307, 308];

export interface Get {
  source: Pick<HttpSource, 'url' | 'headers' | 'certificateAuthority'>;
  /** Of this request; sent to every origin that it is redirected to. */
  headers: Readonly<Record<string, string>>;
  stallMs: number;
  /** Whether what only this machine itself can reach may be asked, as in tests. */
  mayReachItself: boolean;
  signal: AbortSignal;
}

/**
 * Asks a web server for a file, following redirects: not from https to http, and with the source's own headers to its
 * own origin only. The caller reads the body to its end, or destroys it.
 *
 * @throws LaminaError `source-unavailable` where the server cannot be reached or stalls, `source-denied` for a redirect
 *   that is not followed
 */
export async function httpGet(get: Get): Promise<IncomingMessage> {
  const first = URL.parse(get.source.url);
  if (!first) throw new LaminaError('invalid-parameter', `${get.source.url} is no URL: correct its host or port`);
  const { origin } = first;
  let url = first;
  for (let count = 0; count <= maxRedirects; count++) {
    const secret = url.origin === origin ? trimmed(get.source.headers) : {};
    const answer = await getOnce(url, { ...get, headers: { ...secret, ...get.headers } });
    const { location } = answer.headers;
    if (!redirects.includes(answer.statusCode ?? 0) || location === undefined) return answer;
    answer.destroy();
    url = nextUrl(url, location);
  }
  throw new LaminaError('source-denied', `${get.source.url}: more than ${maxRedirects} redirects: name where it ends`);
}

/** Of no header the space around its value is a part, and editors end a Secret's with the end of a line. */
function trimmed(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.trim()]));
}

function nextUrl(from: URL, location: string): URL {
  const next = URL.parse(location, from.href);
  const to = next ? shownUrl(next) : 'nowhere';
  const refuse = (why: string) => new LaminaError('source-denied', `${shownUrl(from)} redirects to ${to}: ${why}`);
  if (!next || !['http:', 'https:'].includes(next.protocol)) throw refuse('that is no http or https URL');
  if (from.protocol === 'https:' && next.protocol === 'http:') {
    throw refuse('from https to http nothing is followed; name an https URL that stays so');
  }
  return next;
}

async function getOnce(url: URL, get: Get): Promise<IncomingMessage> {
  const { source, headers, stallMs, mayReachItself, signal } = get;
  signal.throwIfAborted();
  if (!mayReachItself) assertReachable(url);
  const lookup = mayReachItself ? {} : { lookup: lookupReachable };
  const options = { ...lookup, headers: { 'accept-encoding': 'identity', 'user-agent': 'lamina', ...headers }, signal };
  const ca = source.certificateAuthority === null ? {} : { ca: source.certificateAuthority };
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  let sent: ClientRequest;
  try {
    sent =
      url.protocol === 'https:'
        ? tlsRequest(url, { ...options, ...ca, agent: false })
        : plainRequest(url, { ...options, agent: false });
  } catch (error) {
    // What was wrong in a Secret can be put right.
    throw new LaminaError('source-denied', `${shownUrl(url)} cannot be asked for: ${messageOf(error)}`, {
      cause: error,
    });
  }
  let answer: IncomingMessage | undefined;
  sent.once('response', (head: IncomingMessage) => resolve((answer = head)));
  sent.setTimeout(stallMs);
  sent.on('timeout', () => {
    // Where what has come is not taken yet, this side is the slow one, which writes, or may not take more.
    if (answer && answer.readableLength > 0) sent.setTimeout(stallMs);
    else sent.destroy(new Error(`nothing came for ${stallMs / 1000} s`));
  });
  sent.on('error', (error) => reject(signal.aborted ? (signal.reason as Error) : unreachable(shownUrl(url), error)));
  sent.end();
  return promise;
}

/** What OpenSSL says of a certificate that leads to none of those that are trusted. */
const unknownIssuer = [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
];

export function unreachable(url: string, error: unknown): LaminaError {
  if (error instanceof LaminaError) return error;
  const code = (error as { code?: unknown }).code;
  if (unknownIssuer.some((each) => each === code)) {
    const message = `${url}: its certificate is from nobody that is trusted here (${messageOf(error)}): name a ConfigMap with its authority in certificateAuthority`;
    return new LaminaError('source-denied', message, { cause: error });
  }
  const why = typeof code === 'string' ? `${messageOf(error)} (${code})` : messageOf(error);
  return new LaminaError('source-unavailable', `${url}: ${why}`, { cause: error });
}
