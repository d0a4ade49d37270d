import type { FileSource } from './file-source.ts';

/** Text that is known, or in a file that may be replaced while we run. */
export type Secret = string | FileSource;

/** How to reach an API server, and as whom. */
export interface Connection {
  /** `https://10.0.0.1:443`, perhaps with a path. */
  readonly server: URL;
  /** PEM; the system's CAs where there is none. */
  readonly certificateAuthority?: Secret | undefined;
  /** The name to expect in the server's certificate, where it is not the host of `server`. */
  readonly tlsServerName?: string | undefined;
  readonly insecureSkipTlsVerify?: boolean | undefined;
  readonly token?: Secret | undefined;
  /** PEM */
  readonly clientCertificate?: { certificate: Secret; key: Secret } | undefined;
  /** Where objects go that no namespace is given for. */
  readonly namespace: string;
}

export async function revealSecret(secret: Secret | undefined): Promise<string | undefined> {
  return typeof secret === 'object' ? secret.read() : secret;
}
