import { errnoOf, LaminaError, messageOf } from '../../lib/errors.ts';
import { type Credentials, tlsOptions } from '../identity/credentials.ts';
import { memberName } from '../identity/identity-names.ts';

/** Another node that serves layers. */
export interface Peer {
  /** Its certificate must say that it is this one. */
  node: string;
  /** `host:port` */
  address: string;
}

/** How a peer is asked. */
export interface PeerConnection {
  peer: Peer;
  credentials: Credentials;
  /** Where nothing moves for so long, the connection is given up. */
  stallMs: number;
  signal: AbortSignal;
}

/** Options of a TLS connection to the peer, and to nobody else. */
export function connectOptions({ peer, credentials }: PeerConnection) {
  const { hostname, port } = new URL(`https://${peer.address}`);
  return {
    ...tlsOptions(credentials),
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port || 443),
    servername: memberName('node', peer.node),
  };
}

export function stalled({ stallMs }: PeerConnection): Error {
  return new Error(`nothing came for ${stallMs} ms`);
}

/**
 * What a failed connection is to the caller: its own abort, LaminaError `peer-untrusted` where one side does not accept
 * the other's certificate, or `peer-unavailable`.
 */
export function connectionFailure({ peer, signal }: PeerConnection, error: unknown): unknown {
  if (error instanceof LaminaError) return error;
  if (signal.aborted) return signal.reason;
  const code = isCertificateError(error) ? 'peer-untrusted' : 'peer-unavailable';
  return new LaminaError(code, `node ${peer.node} at ${peer.address}: ${messageOf(error)}`, { cause: error });
}

/** OpenSSL's and Node's names for a certificate that is not accepted, by us or by the other side (an alert). */
function isCertificateError(error: unknown): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ALERT_(UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE)/.test(
    errnoOf(error) ?? '',
  );
}
